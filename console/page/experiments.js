// Experiments, gates, layers and configs: each with its light and its arms as bars.

import { ask, repeat } from "./api.js";
import { armOf, colorOf } from "./arms.js";
import { empty, h, light, state } from "./dom.js";
import { ago, count, counted, KINDS, percent } from "./format.js";
import { firstSteps } from "./overview.js";
import { keep } from "./router.js";

const ORDER = ["experiment", "layer", "gate", "dynamic_config"];
const WORST = ["red", "yellow", "unknown", "green"];
export const WINDOWS = { "1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days" };

export const addressOf = ({ kind, name }) => `/experiments/${encodeURIComponent(name)}${kind === "experiment" ? "" : `?kind=${kind}`}`;

/** Arms as people see them: those of one name (a gate passes by several rules) are one bar. */
export function merged(entity) {
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

/** Bars of units by arm. */
export function bars(key, arms) {
  const most = Math.max(1, ...arms.map((arm) => arm.units));
  const sum = Math.max(1, arms.reduce((units, arm) => units + arm.units, 0));
  return h(
    "ul",
    { class: "bars" },
    ...arms.map((arm) => {
      const color = colorOf(key, arm.label);
      return h(
        "li",
        { title: `${arm.label}: ${counted(arm.units, "unit")}, ${counted(arm.exposures, "exposure")}` },
        h("span", { class: "arm" }, h("i", { css: { "--arm": color } }), h("span", {}, arm.label)),
        h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill", css: { "--arm": color, "--share": `${(100 * arm.units) / most}%` } })),
        h("span", { class: "share" }, percent(arm.units / sum)),
        h("span", { class: "units" }, count(arm.units)),
      );
    }),
  );
}

function card(entity) {
  const { health } = entity;
  return h(
    "article",
    { class: "panel entity" },
    h(
      "div",
      { class: "title" },
      h(
        "div",
        { class: "called" },
        h("h2", {}, h("a", { href: addressOf(entity) }, entity.name || "(no name)")),
        h("span", { class: "kind" }, `${KINDS[entity.kind] ?? entity.kind}${entity.layer ? ` in ${entity.layer}` : ""}`),
      ),
      health ? light(health.light) : null,
    ),
    health && health.light !== "green" ? h("p", { class: "why" }, health.why) : null,
    bars(`${entity.kind}/${entity.name}`, merged(entity)),
    h("p", { class: "total" }, `${counted(entity.units, "unit")}, ${counted(entity.exposures, "exposure")}, last ${ago(entity.last_seen)}`),
  );
}

const rank = ({ health }) => WORST.indexOf(health?.light ?? "unknown");

export const experiments = {
  path: "/experiments",
  section: "experiments",
  title: () => "Experiments",
  open(root, { query }) {
    const cards = new Map(); // entity → {text, element}
    const label = h("span", { class: "state", role: "status", id: "experiments-state" });
    const search = h("input", { type: "search", id: "find", placeholder: "Find by name", "aria-label": "Find by name", value: query.get("find") ?? "", autocomplete: "off", spellcheck: "false" });
    const kind = h("select", { id: "kind", "aria-label": "Kind" }, ...Object.entries({ "": "Every kind", ...KINDS }).map(([value, word]) => h("option", { value, selected: (query.get("kind") ?? "") === value }, word)));
    const span = h("select", { id: "window", "aria-label": "Time window" }, ...Object.entries(WINDOWS).map(([value, word]) => h("option", { value, selected: (query.get("window") ?? "24h") === value }, word)));
    const box = h("div", { class: "entities", id: "entities" });
    const nothing = h("div", { id: "experiments-empty", hidden: true });
    root.append(h("div", { class: "head bare" }, h("h1", {}, "Experiments"), label, h("span", { class: "gap" }), search, kind, span), nothing, box);
    let found = [];

    function draw() {
      const text = search.value.trim().toLowerCase();
      const wanted = found.filter((each) => each.name.toLowerCase().includes(text) && (!kind.value || each.kind === kind.value));
      const keys = wanted.map((each) => `${each.kind}/${each.name}`);
      for (const [key, made] of cards) if (!keys.includes(key)) made.element.remove(), cards.delete(key);
      wanted.forEach((entity, index) => {
        const content = JSON.stringify([entity, ago(entity.last_seen)]);
        const before = cards.get(keys[index]);
        if (before?.text !== content && !before?.element.contains(document.activeElement)) {
          const element = card(entity);
          before?.element.replaceWith(element);
          cards.set(keys[index], { text: content, element });
        }
        const { element } = cards.get(keys[index]);
        if (box.children[index] !== element) box.insertBefore(element, box.children[index] ?? null);
      });
      state(label, "", wanted.length ? `${count(wanted.length)}${wanted.length < found.length ? ` of ${count(found.length)}` : ""}` : "");
      nothing.hidden = wanted.length > 0;
      if (wanted.length) return;
      if (text || kind.value) nothing.replaceChildren(empty("Nothing is called so", "Widen the filter or the time above."));
      else if (span.value === "30d") nothing.replaceChildren(firstSteps());
      else nothing.replaceChildren(firstSteps(), empty("Or nothing lately", "Widen the time above: what was exposed before is still there."));
    }

    const asking = repeat(3000, async () => {
      const asked = span.value;
      try {
        const answer = await ask(`/api/experiments?window=${asked}`);
        if (asked !== span.value) return; // the choice has changed meanwhile
        found = answer.experiments;
      } catch (error) {
        state(label, "down", cards.size ? "Not current" : "Not available");
        if (cards.size) return;
        nothing.hidden = false;
        nothing.replaceChildren(empty("The store cannot be asked", `${error.message} ${error.remedy}`, "It is tried again by itself."));
        return;
      }
      found.sort((one, other) => ORDER.indexOf(one.kind) - ORDER.indexOf(other.kind) || rank(one) - rank(other) || other.units - one.units || (one.name < other.name ? -1 : 1));
      draw();
    });
    const choose = () => keep({ find: search.value.trim(), kind: kind.value, window: span.value === "24h" ? "" : span.value });
    for (const control of [search, kind]) control.addEventListener("input", () => (choose(), draw()));
    span.addEventListener("change", () => (choose(), asking.now()));
    return asking.stop;
  },
};
