// One experiment: can it be trusted, how are its arms, what happened over time, and what happens now.

import { ask, repeat } from "./api.js";
import { colorOf } from "./arms.js";
import { lines } from "./charts.js";
import { empty, h, light, panel, said, table, write } from "./dom.js";
import { addressOf, bars, merged, WINDOWS } from "./experiments.js";
import { ago, count, duration, KINDS, percent } from "./format.js";
import { stream } from "./live.js";
import { nearest } from "./names.js";
import { keep } from "./router.js";

const EXCLUDED = {
  non_production: "of other tiers", secondary: "secondary", manual: "manual", override: "by override", holdout: "in a holdout",
  rule_default: "by the default rule", rule_prestart: "before the start", rule_disabled: "while disabled",
  rule_layer_assignment: "by the layer's assignment", rule_not_allocated: "not allocated", not_by_chance: "by targeting and not by chance", no_group: "without a group", no_unit: "without a unit",
};

const PARTS = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };
const LONG_AGO_MS = 180 * 86_400_000;
const time = (iso) => new Date(iso).toLocaleString("en-GB", Math.abs(Date.now() - Date.parse(iso)) > LONG_AGO_MS ? { ...PARTS, year: "numeric" } : PARTS);
const HOURS_MIN = 3; // fewer points say nothing: then the minutes are shown first
const signed = (share) => `${share > 0 ? "+" : share < 0 ? "−" : ""}${(Math.abs(share) * 100).toFixed(2)} %`;
const p = (value) => (value === null || value === undefined ? "–" : value < 0.0001 ? "< 0.0001" : value.toFixed(4));

/** Deviations by arm, as bars to the left and to the right of the plan. */
function armsTable(key, groups, population) {
  const checks = new Map((population?.groups ?? []).map(({ group, checks: each }) => [group, each]));
  const rows = groups.map(({ group, units, share, planned_share: planned, deviation }) => [
    h("span", { class: "arm" }, h("i", { css: { "--arm": colorOf(key, group) } }), h("span", {}, group || "(no name)")),
    count(units),
    percent(share),
    planned === null ? "–" : percent(planned),
    deviation === null || deviation === undefined ? "–" : h("span", { class: "deviation" }, signed(deviation)),
    checks.has(group) ? count(checks.get(group)) : "–",
  ]);
  return table("Arms against the plan", [{ name: "Arm" }, ...["Units", "Share", "Planned", "Off by", "Checks"].map((name) => ({ name, number: true }))], rows, "arms");
}

function valueOf({ value, unit }) {
  if (value === null) return "–";
  if (unit === "ms") return duration(value);
  return unit === "p" ? `p ${p(value)}` : `${(value * 100).toFixed(value < 0.001 ? 3 : 2)} %`;
}

function signal(each) {
  const groups = each.by_group ?? [];
  const told = Object.keys(groups[0] ?? {}).find((name) => !["group", "of", "rate"].includes(name));
  return h(
    "li",
    {},
    light(each.light),
    h("strong", {}, each.title),
    h("span", { class: "value" }, valueOf(each)),
    h("p", {}, ...said(each.why)),
    each.light === "green" || each.light === "unknown" ? null : h("p", { class: "action" }, ...said(`${each.meaning} ${each.action}`)),
    groups.length ? h("p", { class: "hint" }, groups.map((one) => `${one.group}: ${count(one[told])} of ${count(one.of)}`).join(" · ")) : null,
  );
}

function timelineTable(timeline) {
  const rows = timeline.map((each) => [
    each.version || "unknown",
    `${each.from ? time(each.from) : "–"} to ${each.until ? time(each.until) : each.is_gone ? "its end" : "now"}`,
    each.planned ? each.planned.map(({ group, share }) => `${group} ${percent(share)}`).join(", ") : each.plan_why || "–",
    count(each.units),
    light(each.light),
  ]);
  return table("Config versions", [{ name: "Version" }, { name: "In force" }, { name: "Planned" }, { name: "Units", number: true }, { name: "Split" }], rows, "timeline");
}

/** The charts and figures that the health of an experiment gives. */
function healthPanels(key) {
  const srmChart = lines("Evidence against the planned split, over time", { format: (each) => Number(each).toFixed(1) });
  const arms = h("div", {});
  const test = h("div", { class: "body" });
  const signals = h("ul", { class: "signals" });
  const segments = h("div", {});
  const parts = {
    arms: panel("Arms against plan", { id: "arms" }, arms),
    srm: panel("Sample ratio over time", { id: "srm" }, h("div", { class: "body" }, srmChart.element), test),
    signals: panel("Health signals", { id: "signals" }, signals, segments),
  };
  function update(health) {
    const { versions } = health.srm;
    const version = versions.findLast((each) => each.path.length) ?? versions.at(-1);
    if (!version) {
      arms.replaceChildren(empty("Not counted yet", health.why));
      test.replaceChildren();
      parts.srm.hidden = true;
    } else {
      parts.srm.hidden = version.path.length === 0;
      arms.replaceChildren(armsTable(key, version.groups, health.population), excluded(health.population));
      if (version.path.length) drawPath(health.srm, version);
    }
    signals.replaceChildren(...health.signals.map(signal));
    const bad = health.segments.filter(({ light: name }) => name === "red" || name === "yellow");
    segments.replaceChildren(
      ...(bad.length ? [table("Segments that are off", [{ name: "Segment" }, { name: "Units", number: true }, { name: "Split" }, { name: "Why" }], bad.map((each) => [`${each.dimension} ${each.segment}`, count(each.units), light(each.light), each.why]))] : []),
    );
  }
  function drawPath(srm, version) {
    const at = version.path.map((point) => Date.parse(point.at));
    const line = (name) => version.path.map((point, index) => [at[index], point[name]]);
    const ends = [at[0], at.at(-1)].map((ms) => [ms, srm.boundary_log10]);
    srmChart.update({
      series: [
        { label: "Strongest so far", color: "var(--water)", points: line("log10_e_max") },
        { label: "Now", color: "var(--arm-0)", points: line("log10_e"), thin: true },
        { label: `Boundary: red above (α = ${srm.alpha})`, color: "var(--bad)", points: ends, dashed: true, thin: true },
      ],
      says: `Evidence against the planned split, log10: now ${version.path.at(-1).log10_e.toFixed(1)}, strongest ${version.path.at(-1).log10_e_max.toFixed(1)}, red above ${srm.boundary_log10.toFixed(1)}.`,
    });
    const { chi_squared: chi, sequential } = version;
    test.replaceChildren(
      h("p", { class: "lead" }, light(srm.light), ` ${srm.why}`),
      srm.light === "red" || srm.light === "yellow" ? h("p", { class: "action" }, ...said(`${srm.meaning} ${srm.action}`)) : "",
      h(
        "dl",
        { class: "parts" },
        h("div", {}, h("dt", {}, "Always valid p"), h("dd", {}, p(sequential?.p_always))),
        h("div", {}, h("dt", {}, "Chi-squared p, for one look"), h("dd", {}, p(chi?.p))),
        h("div", {}, h("dt", {}, "Furthest arm"), h("dd", {}, chi ? percent(chi.deviation) : "–")),
        sequential?.crossed_at ? h("div", {}, h("dt", {}, "Crossed"), h("dd", {}, time(sequential.crossed_at))) : null,
      ),
    );
  }
  return { parts, update, stop: srmChart.stop };
}

function excluded(population) {
  if (!population?.excluded.length) return "";
  return h("p", { class: "hint body" }, `Not counted: ${population.excluded.map(({ reason, checks }) => `${count(checks)} ${EXCLUDED[reason] ?? reason}`).join(", ")}.`);
}

/** Users and Checks: two charts, by hour or by minute. */
function coursePanels(key) {
  const users = lines("Users by arm: units exposed for the first time", { format: count });
  const checks = lines("Checks by arm: all exposures that count", { format: count });
  const final = h("span", { class: "hint", id: "final" });
  const step = h("select", { id: "step", "aria-label": "Step of time" }, h("option", { value: "course" }, "By hour"), h("option", { value: "last_hour" }, "Last hour, by minute"));
  let last = null;
  let isChosen = false;
  const element = panel(
    "Users and checks",
    { id: "course", beside: [final, step], className: "wide" },
    h("div", { class: "pair body" }, h("div", {}, h("h3", {}, "Users"), users.element), h("div", {}, h("h3", {}, "Checks"), checks.element)),
  );
  function seriesOf(points, groups, what) {
    return groups.map((group) => ({ label: group || "(no name)", color: colorOf(key, group), points: points.map((point) => [Date.parse(point.at), point[what][group] ?? 0]) }));
  }
  function update(found) {
    last = found;
    if (!isChosen) step.value = found.course.points.length < HOURS_MIN ? "last_hour" : "course";
    const { points, step_s: stepS } = found[step.value];
    write(final, found.final_until ? `Final until ${time(found.final_until)}` : "");
    for (const [chart, what] of [[users, "users"], [checks, "checks"]]) {
      const sums = found.groups.map((group) => `${group} ${count(points.reduce((sum, point) => sum + (point[what][group] ?? 0), 0))}`);
      chart.update({ series: seriesOf(points, found.groups, what), says: `${what} in steps of ${duration(stepS * 1000)}: ${sums.join(", ")}.` });
    }
  }
  step.addEventListener("change", () => {
    isChosen = true;
    if (last) update(last);
  });
  return { element, update, stop: () => (users.stop(), checks.stop()) };
}

async function unknown(root, name) {
  let near = [];
  try {
    const { experiments } = await ask("/api/experiments?window=400d");
    near = nearest(name, experiments);
  } catch {
    // Without a store there are no names to offer.
  }
  root.replaceChildren(
    h("h1", {}, name),
    empty(
      "No experiment of this name was ever exposed",
      near.length ? ["Did you mean ", ...near.flatMap((each, index) => [index ? ", " : "", h("a", { href: addressOf(each) }, each.name)]), "?"] : "Its first exposure makes it appear among them all.",
      [h("a", { href: "/experiments" }, "All experiments")],
    ),
  );
}

function factsOf(found) {
  const fact = (name, text) => [h("dt", {}, name), h("dd", {}, text)];
  const sdks = found.sdks.slice(0, 6).map((each) => `${each.type || "unknown"} ${each.version}: ${count(each.units)}`);
  const versions = found.config_versions.map((each) => `${each.version || "unknown"} (${each.match || "not matched"}): ${count(each.units)}`);
  return h(
    "dl",
    { class: "facts-of" },
    ...fact("Exposures", `${count(found.exposures)}, last ${ago(found.last_seen)}`),
    ...fact("In several arms", `${count(found.units_in_several_arms)} units`),
    ...fact("Config versions", versions.join(" · ") || "–"),
    ...fact("SDKs", sdks.join(" · ") || "–"),
  );
}

export const experiment = {
  path: "/experiments/:name",
  section: "experiments",
  title: ({ name }) => name,
  open(root, { name, query }) {
    const kind = query.get("kind") ?? "";
    const key = `${kind || "experiment"}/${name}`;
    const encoded = encodeURIComponent(name);
    const judged = h("div", { class: "verdict", role: "status" });
    const now = h("div", {}, h("p", { class: "hint body" }, "Counting…"));
    const versions = h("div", {});
    const span = h("select", { id: "window", "aria-label": "Time window" }, ...Object.entries(WINDOWS).map(([value, word]) => h("option", { value, selected: (query.get("window") ?? "24h") === value }, word)));
    const health = healthPanels(key);
    const course = coursePanels(key);
    const timeline = panel("Config versions", { id: "timeline", className: "wide" }, versions);
    const watched = stream({ fixed: kind === "gate" || kind === "layer" ? { [kind]: name } : kind ? { kind, name } : { experiment: name }, title: "Live" });
    const left = h("div", { class: "stack" }, health.parts.arms, health.parts.srm, panel("Units by arm", { id: "units", beside: [span] }, now));
    const grid = h("div", { class: "grid" }, left, h("div", { class: "stack" }, health.parts.signals), course.element, timeline);
    if (kind) grid.classList.add("single");
    for (const part of [...Object.values(health.parts), course.element, timeline]) part.hidden = true;
    root.append(
      h("nav", { class: "crumbs", "aria-label": "Where you are" }, h("a", { href: "/experiments" }, "Experiments")),
      h("div", { class: "head bare" }, h("h1", {}, name || "(no name)"), h("span", { class: "kind" }, KINDS[kind] ?? "experiment")),
      judged,
      grid,
      watched.element,
    );

    async function shown() {
      const found = await ask(`/api/experiments/${encoded}?window=${span.value}${kind ? `&kind=${kind}` : ""}`);
      now.replaceChildren(h("div", { class: "body" }, bars(key, merged(found)), factsOf(found)));
      timeline.hidden = !found.timeline?.length;
      if (found.timeline?.length) versions.replaceChildren(timelineTable(found.timeline));
    }

    async function judge() {
      const found = await ask(`/api/experiments/${encoded}/health`);
      judged.replaceChildren(light(found.light), h("p", {}, found.why), h("p", { class: "hint" }, `${found.project} / ${found.environment} · as of ${found.as_of ? ago(found.as_of) : "now"}`));
      for (const part of Object.values(health.parts)) part.hidden = false;
      health.update(found);
    }

    async function drawCourse() {
      const found = await ask(`/api/experiments/${encoded}/users-and-checks`);
      course.element.hidden = false;
      course.update(found);
    }

    let isKnown = false;
    const asking = repeat(5000, async () => {
      try {
        const counted = shown().catch((error) => {
          // Nothing in this time is no reason to say that there is nothing at all.
          if (error.status !== 404 || kind) throw error;
          now.replaceChildren(empty("No exposures in this time", "Widen the time above."));
        });
        await Promise.all(kind ? [counted] : [counted, judge(), drawCourse()]);
        isKnown = true;
      } catch (error) {
        if (error.status === 404 && !isKnown) {
          asking.stop();
          watched.stop();
          await unknown(root, name);
        } else if (!isKnown) judged.replaceChildren(empty("This cannot be said now", `${error.message} ${error.remedy}`, "It is tried again by itself."));
        else judged.replaceChildren(light("unknown", "Not current"), h("p", {}, `${error.message} ${error.remedy}`));
      }
    });
    span.addEventListener("change", () => (keep({ window: span.value === "24h" ? "" : span.value }), asking.now()));
    return () => {
      asking.stop();
      watched.stop();
      health.stop();
      course.stop();
    };
  },
};
