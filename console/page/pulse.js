// What every view shows: whether it flows, and what is out of order. Asked once for the whole page.

import { ask, repeat } from "./api.js";
import { $, h, write } from "./dom.js";
import { rate } from "./format.js";

const EVERY_MS = 2000;
const listeners = new Set();
let last = null;

/** Be told of the pipeline now and whenever it was asked; null when the console does not answer. Returns how to end. */
export function onPipeline(listener) {
  listeners.add(listener);
  if (last) listener(last);
  return () => listeners.delete(listener);
}

/** Show what does not work, and that it is tried again; nothing when all does. */
function trouble(items) {
  const box = $("#trouble");
  box.hidden = items.length === 0;
  const text = items.map((item) => item.join(" ")).join(" ");
  if (box.dataset.text === text) return;
  box.dataset.text = text;
  box.replaceChildren(
    ...items.map(([what, why]) => h("span", {}, h("strong", {}, what), ` ${why}`)),
    items.length ? h("span", {}, "Tried again every 2 s.") : "",
  );
}

function word(log) {
  if (log.state === "starting") return ["", "Asking the log…"];
  if (log.state !== "ok") return ["down", "Log not reachable"];
  if (log.events_per_s === null) return ["", "Counting…"];
  return log.events_per_s ? ["live", `${rate(log.events_per_s)} events/s`] : ["", "Nothing flows"];
}

function tell(name, text) {
  const box = $("#pulse");
  box.dataset.state = name;
  write(box, text);
}

async function refresh() {
  try {
    last = await ask("/api/pipeline");
  } catch (error) {
    last = null;
    if (error.status !== 401) trouble([[error.message, error.remedy]]);
    tell("down", "Console not reachable");
    for (const listener of listeners) listener(null);
    return;
  }
  const { log, store } = last;
  const items = [];
  if (log.state === "unreachable") items.push(["The log cannot be reached:", `${log.message}. See what runs with "headrace doctor".`]);
  if (store.state !== "ok") items.push(["The store cannot be asked:", store.message]);
  trouble(items);
  tell(...word(log));
  for (const listener of listeners) listener(last);
}

export const startPulse = () => repeat(EVERY_MS, refresh);
