// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const brief = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (number) => whole.format(number);

export const compact = (number) => (Math.abs(number) < 100_000 ? whole.format(number) : brief.format(number));

export const rate = (number) => (number > 0 && number < 10 ? number.toFixed(1).replace(".0", "") : compact(number));

/** Keep the beginning and the end of a long id: the end is what tells ids apart. */
export const short = (id) => (id.length > 18 ? `${id.slice(0, 6)}…${id.slice(-10)}` : id);

export const percent = (share) => `${(share * 100).toFixed(1)} %`;

export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

export function ago(iso, now = Date.now()) {
  const ms = now - Date.parse(iso);
  return ms < 1000 ? "just now" : `${duration(ms)} ago`;
}

export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

const pad = (number, digits = 2) => String(number).padStart(digits, "0");

export function clock(iso) {
  const time = new Date(iso);
  return `${pad(time.getHours())}:${pad(time.getMinutes())}:${pad(time.getSeconds())}.${pad(time.getMilliseconds(), 3)}`;
}

export const KINDS = { experiment: "experiment", gate: "gate", layer: "layer", dynamic_config: "config" };
