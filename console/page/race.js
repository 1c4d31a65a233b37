// The header: what flows, how far behind each stage is, what has landed; and what is out of order.

import { ask, repeat } from "./api.js";
import { $, h, write } from "./dom.js";
import { ago, compact, count, duration, rate } from "./format.js";

const SLOW_S = 10;
const VERY_SLOW_S = 120;

function show(name, { value = "–", unit, note = "", health = "", flows = false, full = "" }) {
  const station = $(`[data-station="${name}"]`);
  write($("[data-value]", station), value);
  if (unit) write($("[data-unit]", station), unit);
  write($("[data-note]", station), note || "\u00a0");
  $("[data-value]", station).title = full;
  station.className = `station ${name === "dead" ? "aside" : ""} ${health} ${flows ? "flows" : ""}`;
}

function lag(name, unit, { records }, perSecond, flows, isKnown) {
  if (records === null) {
    show(name, { unit, note: isKnown ? "has read nothing yet" : "not known now" });
    return;
  }
  const seconds = records / Math.max(1, perSecond);
  const health = seconds > VERY_SLOW_S ? "bad" : seconds > SLOW_S ? "warn" : "good";
  const note = records && health !== "good" ? `about ${duration(seconds * 1000)}` : "keeping up";
  show(name, { value: compact(records), full: count(records), unit: `${unit}`, note, health, flows });
}

function landed(tables, flows) {
  if (!tables) {
    show("store", { health: "bad", note: "not reachable" });
    return;
  }
  const all = Object.values(tables);
  const rows = all.reduce((sum, table) => sum + table.rows, 0);
  const last = all.map((table) => table.last_landed_at).filter(Boolean).sort().at(-1);
  const delays = all.map((table) => table.delay_p99_ms).filter((delay) => delay !== null);
  const delay = delays.length ? `p99 ${duration(Math.max(...delays))}` : "";
  const note = last ? [`last ${ago(last)}`, delay].filter(Boolean).join(", ") : "nothing yet";
  show("store", { value: compact(rows), full: count(rows), unit: rows === 1 ? "row" : "rows", note, health: "good", flows });
}

function dead(letters) {
  const counts = Object.values(letters);
  if (counts.includes(null)) {
    show("dead", {});
    return;
  }
  const sum = counts.reduce((total, each) => total + each, 0);
  const note = Object.entries(letters).filter(([, each]) => each).map(([topic, each]) => `${topic.slice(4)} ${compact(each)}`).join(", ");
  show("dead", { value: compact(sum), full: count(sum), note: note || "none refused", health: sum ? "warn" : "good" });
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

async function refresh() {
  let pipeline;
  try {
    pipeline = await ask("/api/pipeline");
  } catch (error) {
    trouble([[error.message, error.remedy]]);
    for (const name of ["flow", "worker", "lander", "store", "dead"]) show(name, { health: "bad" });
    return;
  }
  const { log, store, tables } = pipeline;
  const perSecond = log.events_per_s;
  const flows = log.state === "ok" && perSecond > 0;
  show("flow", {
    value: perSecond === null ? "–" : rate(perSecond),
    note: { ok: perSecond ? "over the last minute" : "nothing is being sent", starting: "asking the log" }[log.state] ?? "log not reachable",
    health: { ok: "good", starting: "" }[log.state] ?? "bad",
    flows,
  });
  lag("worker", "chunks behind", log.lag.worker, perSecond / 20, flows, log.state === "ok");
  lag("lander", "events behind", log.lag.lander, perSecond, flows, log.state === "ok");
  landed(tables, flows);
  dead(log.dead_letters);
  const items = [];
  if (log.state === "unreachable") items.push(["The log cannot be reached:", `${log.message}. See what runs with "headrace doctor".`]);
  if (store.state !== "ok") items.push(["The store cannot be asked:", store.message]);
  trouble(items);
}

export const startRace = () => repeat(2000, refresh);
