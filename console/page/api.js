// Asking the console, and asking again.

export class Refused extends Error {
  constructor(status, { reason = "failed", message = "", remedy = "" } = {}) {
    super(message);
    Object.assign(this, { status, reason, remedy });
  }
}

/** Whole numbers that JavaScript would round are kept as the digits that came. */
const exact = (_key, value, context) =>
  typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "") ? context.source : value;

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { headers: { accept: "application/json" }, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, {
      reason: "console_unreachable",
      message: "The console does not answer.",
      remedy: "Start it with `headrace up`. This page goes on by itself.",
    });
  }
  const text = await answer.text();
  let body;
  try {
    body = JSON.parse(text, exact);
  } catch {
    throw new Refused(answer.status, { message: `The console answered ${answer.status} with something unreadable.` });
  }
  if (answer.status === 401) document.dispatchEvent(new Event("signed-out"));
  if (!answer.ok) throw new Refused(answer.status, body.error);
  return body;
}

/** Do `work` now and then every `everyMs` while the page is looked at. Returns how to do it at once, and how to end it. */
export function repeat(everyMs, work) {
  let timer;
  let running = false;
  let ended = false;
  const run = async () => {
    clearTimeout(timer);
    if (running || ended) return;
    running = true;
    try {
      await work();
    } finally {
      running = false;
      if (!ended) timer = setTimeout(run, document.hidden ? 5 * everyMs : everyMs);
    }
  };
  const onShown = () => document.hidden || run();
  document.addEventListener("visibilitychange", onShown);
  run();
  return {
    now: run,
    stop() {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onShown);
    },
  };
}
