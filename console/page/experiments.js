// Experiments, gates, layers and configs with their arms as bars; one opens to its course in time.

import { ask, repeat } from "./api.js";
import { armOf, colorOf } from "./arms.js";
import { $, h, state, svg, write } from "./dom.js";
import { ago, count, duration, KINDS, percent } from "./format.js";
import { watch } from "./live.js";

const ORDER = ["experiment", "layer", "gate", "dynamic_config"];
const cards = new Map(); // entity → its card

const windowAsked = () => $("#window").value;

/** Arms as people see them: those of one name (a gate passes by several rules) are one bar. */
function merged(entity) {
  const arms = new Map();
  for (const arm of entity.arms) {
    const label = armOf({ ...arm, kind: entity.kind });
    const bar = arms.get(label) ?? { label, units: 0, exposures: 0 };
    bar.units += arm.units;
    bar.exposures += arm.exposures;
    arms.set(label, bar);
  }
  return [...arms.values()].sort((one, other) => (one.label < other.label ? -1 : 1));
}

function card(entity) {
  const key = `${entity.kind}/${entity.name}`;
  const bars = h("div", { class: "bars" });
  const total = h("span", { class: "total" });
  const more = h("div", { class: "more" });
  const details = h(
    "details",
    { class: "entity" },
    h("summary", {}, h("div", { class: "title" }, h("h3", {}, entity.name || "(no name)"), h("span", { class: "kind" }, KINDS[entity.kind] ?? entity.kind), total), bars),
    more,
  );
  details.addEventListener("toggle", () => {
    if (!details.open) return;
    if (!more.childElementCount) more.append(h("p", { class: "hint" }, "Counting…"));
    showMore(entity, more);
  });
  const made = { key, details, bars, total, more, rows: new Map() };
  cards.set(key, made);
  return made;
}

function update(made, entity) {
  write(made.total, `${count(entity.units)} ${entity.units === 1 ? "unit" : "units"}`);
  made.total.title = `${count(entity.exposures)} exposures, last ${ago(entity.last_seen)}`;
  const arms = merged(entity);
  const most = Math.max(1, ...arms.map((arm) => arm.units));
  const sum = Math.max(1, arms.reduce((units, arm) => units + arm.units, 0));
  for (const [label, row] of made.rows) if (!arms.some((arm) => arm.label === label)) row.line.remove(), made.rows.delete(label);
  for (const arm of arms) {
    const row = made.rows.get(arm.label) ?? bar(made, arm.label);
    const color = colorOf(made.key, arm.label);
    row.dot.style.setProperty("--arm", color);
    row.fill.style.setProperty("--arm", color);
    row.fill.style.setProperty("--share", `${(100 * arm.units) / most}%`);
    write(row.share, percent(arm.units / sum));
    write(row.units, count(arm.units));
    row.line.title = `${arm.label}: ${count(arm.units)} units, ${count(arm.exposures)} exposures`;
    made.bars.append(row.line);
  }
  if (made.details.open) showMore(entity, made.more);
}

function bar(made, label) {
  const dot = h("i");
  const fill = h("div", { class: "fill" });
  const share = h("span", { class: "share" });
  const units = h("span", { class: "units" });
  const line = h("div", {}, h("span", { class: "arm" }, dot, h("span", {}, label)), h("div", { class: "track" }, fill), share, units);
  const row = { line, dot, fill, share, units };
  made.rows.set(label, row);
  return row;
}

async function showMore(entity, box) {
  let found;
  try {
    found = await ask(`/api/experiments/${encodeURIComponent(entity.name)}?window=${windowAsked()}&kind=${entity.kind}`);
  } catch (error) {
    box.replaceChildren(h("p", { class: "hint" }, `${error.message} ${error.remedy}`));
    return;
  }
  const versions = found.config_versions.map((each) => `${each.version || "unknown"} (${each.match || "not matched"}): ${count(each.units)}`);
  const sdks = found.sdks.slice(0, 6).map((each) => `${each.type || "unknown"} ${each.version}: ${count(each.units)}`);
  box.replaceChildren(
    ...course(found),
    h(
      "dl",
      {},
      ...fact("Exposures", `${count(found.exposures)}, last ${ago(found.last_seen)}`),
      ...fact("In several arms", `${count(found.units_in_several_arms)} units`),
      ...fact("Config versions", versions.join(" · ") || "–"),
      ...fact("SDKs", sdks.join(" · ") || "–"),
    ),
    h("button", { type: "button", on: { click: () => watch(entity.name, entity.kind) } }, "Watch it live"),
  );
}

const fact = (name, text) => [h("dt", {}, name), h("dd", {}, text)];

/** Units per step of time, one line an arm. */
function course(found) {
  const stepMs = found.course.bucket_s * 1000;
  const arms = new Map();
  let first = Infinity;
  let last = -Infinity;
  for (const point of found.course.points) {
    const label = armOf({ ...point, kind: found.kind });
    const at = Date.parse(point.at);
    first = Math.min(first, at);
    last = Math.max(last, at);
    const steps = arms.get(label) ?? new Map();
    steps.set(at, (steps.get(at) ?? 0) + point.units);
    arms.set(label, steps);
  }
  if (last - first < stepMs) return [];
  const top = Math.max(1, ...[...arms.values()].flatMap((steps) => [...steps.values()]));
  const chart = svg("svg", { class: "chart", viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": `Units of ${found.name} over time, by arm` });
  chart.append(svg("line", { x1: 0, x2: 100, y1: 100, y2: 100 }), svg("line", { x1: 0, x2: 100, y1: 0, y2: 0 }));
  for (const [label, steps] of arms) {
    let path = "";
    for (let at = first; at <= last; at += stepMs) {
      const x = (100 * (at - first)) / (last - first);
      path += `${path ? "L" : "M"}${x.toFixed(2)} ${(100 - (100 * (steps.get(at) ?? 0)) / top).toFixed(2)}`;
    }
    const line = svg("path", { d: path });
    line.style.stroke = colorOf(`${found.kind}/${found.name}`, label);
    chart.append(line);
  }
  const time = { hour: "2-digit", minute: "2-digit", ...(last - first > 86_400_000 ? { month: "short", day: "numeric" } : {}) };
  const at = (ms) => new Date(ms).toLocaleString("en-GB", time);
  return [chart, h("div", { class: "scale" }, h("span", {}, at(first)), h("span", {}, `up to ${count(top)} units in ${duration(stepMs)}`), h("span", {}, at(last)))];
}

async function refresh() {
  const asked = windowAsked();
  const label = $("#experiments-state");
  const box = $("#entities");
  let found;
  try {
    found = (await ask(`/api/experiments?window=${asked}`)).experiments;
  } catch (error) {
    state(label, "down", cards.size ? "Not current" : "Not available");
    if (!cards.size) explain("The store cannot be asked", `${error.message} ${error.remedy}`);
    return;
  }
  if (asked !== windowAsked()) return; // the choice has changed meanwhile
  state(label, "", found.length ? String(found.length) : "");
  found.sort((one, other) => ORDER.indexOf(one.kind) - ORDER.indexOf(other.kind) || other.units - one.units || (one.name < other.name ? -1 : 1));
  const keys = found.map((entity) => `${entity.kind}/${entity.name}`);
  for (const [key, made] of cards) if (!keys.includes(key)) made.details.remove(), cards.delete(key);
  found.forEach((entity, index) => {
    const made = cards.get(keys[index]) ?? card(entity);
    update(made, entity);
    if (box.children[index] !== made.details) box.insertBefore(made.details, box.children[index] ?? null);
  });
  if (found.length) $("#experiments-empty").hidden = true;
  else explain("No exposures in this time", "Widen the window above, or send some: the counts appear within two seconds of landing.");
}

function explain(title, text) {
  const box = $("#experiments-empty");
  box.hidden = false;
  box.replaceChildren(h("strong", {}, title), h("p", {}, text));
}

export function startExperiments() {
  const now = repeat(3000, refresh);
  $("#window").addEventListener("change", now);
}
