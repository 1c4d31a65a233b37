// What an arm is called, and which colour it has: the same everywhere on the page.

const PALETTE = 8;
const known = new Map(); // entity → its arms in order
const listeners = new Set();

/** What tells the arms of an entity apart; also what people read. */
export function armOf({ kind, group_name, group, value, rule_id }) {
  if (kind === "gate") return value === "true" ? "pass" : value === "false" ? "fail" : value || rule_id || "–";
  return group_name || group || rule_id || "–";
}

const BASE = ["control", "fail", "off", "default", "disabled"];

/** Return the arm that the others are measured against, which is grey: of several that may be, the first. */
function baseOf(arms) {
  const named = BASE.map((name) => arms.find((arm) => arm.toLowerCase() === name));
  return named.find((arm) => arm !== undefined);
}

/** Return the colour of an arm; an arm seen first changes the order, and `onChange` is told. */
export function colorOf(entity, arm) {
  const arms = known.get(entity) ?? [];
  if (!arms.includes(arm)) {
    arms.push(arm);
    arms.sort();
    known.set(entity, arms);
    for (const listener of listeners) listener(entity);
  }
  const base = baseOf(arms);
  if (arm === base) return "var(--arm-0)";
  const position = arms.filter((each) => each !== base).indexOf(arm);
  return `var(--arm-${1 + (position % (PALETTE - 1))})`;
}

/** Be told when the arms of an entity change their colours. Returns how to end. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}
