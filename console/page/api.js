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
  if (!answer.ok) throw new Refused(answer.status, body.error);
  return body;
}

/** Call `ask` now and then every `everyMs` while the page is looked at. Returns a function that asks at once. */
export function repeat(everyMs, work) {
  let timer;
  let running = false;
  const run = async () => {
    clearTimeout(timer);
    if (running) return;
    running = true;
    try {
      await work();
    } finally {
      running = false;
      timer = setTimeout(run, document.hidden ? 5 * everyMs : everyMs);
    }
  };
  document.addEventListener("visibilitychange", () => document.hidden || run());
  run();
  return run;
}
