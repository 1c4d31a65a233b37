// The live stream: one connection, a bounded list, and honesty about what is not shown.

import { armOf, colorOf, onChange } from "./arms.js";
import { code, empty, h, state, svg, write } from "./dom.js";
import { clock, compact, count, duration, KINDS, rate, short } from "./format.js";
import { firstSteps } from "./overview.js";
import { keep } from "./router.js";

const ROWS_MAX = 200;
const RATE_MAX = 8; // a second: more than anybody reads
const CALM_MS = 250; // rows that come faster are not lit up: all would be
const CALM_ROWS = 3;
const PULSE_S = 60;
const FIRST = ["name", "outcome", "tier"]; // what is filtered by most; the others open

/** What can be filtered by: name → label, and what may be chosen or else any text. */
const CHOICES = {
  outcome: { label: "Outcome", of: { "": "Every outcome", accepted: "Accepted", duplicate: "Duplicates", rejected: "Rejected" } },
  kind: { label: "Kind", of: { "": "Every kind", experiment: "Experiments", gate: "Gates", layer: "Layers", dynamic_config: "Configs" } },
  tier: { label: "Tier", of: { "": "Production", "*": "All tiers", staging: "Staging", development: "Development" } },
  config_match: { label: "Config match", of: { "": "Any config match", exact: "Exact", by_time: "By time", stale: "Stale", unknown_config: "Unknown config", unknown_rule: "Unknown rule" } },
};
const TEXTS = { name: "Name", group: "Arm", unit: "Unit", environment: "Environment", sdk: "SDK" };

const FACTS = {
  "Rejected": (e) => e.rejected_for && `${e.rejected_for} at ${e.rejected_at}: ${e.rejected_why}`,
  Origin: (e) => e.origin,
  Unit: (e) => `${e.unit_type || "unit"} ${e.unit_id}`,
  "Stable id": (e) => e.stable_id,
  Rule: (e) => e.rule_id,
  Value: (e) => e.value,
  Parameter: (e) => e.parameter,
  "Allocated experiment": (e) => e.allocated_experiment,
  Config: (e) => [e.config_version && `version ${e.config_version}`, e.config_match].filter(Boolean).join(", "),
  Assignment: (e) => e.assignment,
  Reason: (e) => e.reason,
  "Event time": (e) => e.event_time && `${e.event_time}${e.time_flag === "ok" ? "" : ` (${e.time_flag})`}`,
  "Received after": (e) => e.event_time && duration(Math.max(0, e.lateness_ms)),
  "Project, environment": (e) => `${e.project}, ${e.environment}`,
  Tier: (e) => e.tier,
  SDK: (e) => `${e.sdk_type} ${e.sdk_version}`,
  Country: (e) => e.country,
};

function facts(exposure) {
  const list = h("dl", { class: "facts" });
  if (exposure.event_id) {
    list.append(h("div", {}, h("dt", {}, "Event id"), h("dd", {}, h("a", { href: `/events/${encodeURIComponent(exposure.event_id)}` }, exposure.event_id))));
  }
  for (const [name, read] of Object.entries(FACTS)) {
    const text = read(exposure);
    if (text) list.append(h("div", {}, h("dt", {}, name), h("dd", {}, String(text))));
  }
  return list;
}

function row(exposure, isCalm) {
  const entity = `${exposure.kind}/${exposure.name}`;
  const arm = armOf(exposure);
  const isAccepted = exposure.outcome === "accepted";
  const details = h(
    "details",
    {},
    h(
      "summary",
      {},
      h("span", { class: "time" }, clock(exposure.received_at)),
      h(
        "span",
        { class: "name" },
        h("b", {}, exposure.name || "(no name)"),
        h("span", { class: "kind" }, KINDS[exposure.kind] ?? exposure.kind),
        exposure.tier && exposure.tier !== "production" ? h("span", { class: "tier" }, exposure.tier) : null,
        isAccepted ? null : h("span", { class: "outcome", "data-outcome": exposure.outcome }, exposure.rejected_for ? `rejected: ${exposure.rejected_for}` : exposure.outcome),
      ),
      h("span", { class: "arm", "data-entity": entity, "data-arm": arm }, h("i", { css: { "--arm": colorOf(entity, arm) } }), h("span", {}, arm)),
      h("span", { class: "unit", title: `${exposure.unit_type} ${exposure.unit_id}` }, short(exposure.unit_id) || "–"),
      h("span", { class: "sdk", title: `${exposure.sdk_type} ${exposure.sdk_version}` }, exposure.sdk_type.replace(/^statsig-/, "") || "–"),
    ),
  );
  details.addEventListener("toggle", () => details.open && details.childElementCount === 1 && details.append(facts(exposure)), { once: true });
  return h("li", { class: `${exposure.outcome} ${isCalm ? "new" : ""}` }, details);
}

/** Make a live stream. `fixed` are filters that stay, `filter` those it begins with. Returns its element and how to end it. */
export function stream({ fixed = {}, filter = {}, title = "Live exposures", onFilter = () => {}, level = "h2" } = {}) {
  let source = null;
  let reopening = 0;
  let position = "";
  let waiting = []; // newest last, not yet on the page
  let isPaused = false;
  let unseen = 0;
  let lastRowAt = 0;
  let isDrawing = false;
  let log = { state: "connecting", message: "" };
  const bars = [];
  const seen = new Set(); // a resumed stream may repeat its last few

  const list = h("ol", { class: "rows", tabindex: 0, "aria-label": "Exposures, newest first" });
  const label = h("span", { class: "state", role: "status", id: "live-state" }, "Connecting…");
  const rateLabel = h("span", { class: "rate", title: "Exposures that match, a second" });
  const pulse = svg("svg", { class: "bars-of-time", viewBox: "0 0 120 24", preserveAspectRatio: "none", "aria-hidden": "true" });
  const pause = h("button", { type: "button", id: "pause", "aria-pressed": "false", on: { click: () => setPaused(!isPaused) } }, "Pause");
  const nothing = h("div", { id: "live-empty", hidden: true });
  const form = filterForm();
  const element = h(
    "section",
    { class: "panel live", id: "live", "aria-labelledby": "live-title" },
    h("div", { class: "head" }, h(level, { id: "live-title" }, title), label, h("span", { class: "gap" }), pulse, rateLabel, pause),
    form,
    h("div", { class: "columns", "aria-hidden": "true" }, ...["Time", "Name", "Arm", "Unit", "SDK"].map((name) => h("span", {}, name))),
    list,
    nothing,
  );

  function filterForm() {
    const input = ([name, text]) => h("input", { type: "search", name, id: `filter-${name}`, placeholder: text, "aria-label": `Filter by ${text.toLowerCase()}`, value: filter[name], autocomplete: "off", spellcheck: "false", maxlength: 200 });
    const choice = ([name, { label: text, of }]) => h("select", { name, id: `filter-${name}`, "aria-label": text }, ...Object.entries(of).map(([value, word]) => h("option", { value, selected: (filter[name] ?? "") === value }, word)));
    const isOpen = ([name]) => !(name in fixed) && !(["name", "kind"].includes(name) && fixed.experiment);
    const texts = Object.entries(TEXTS).filter(isOpen);
    const choices = Object.entries(CHOICES).filter(isOpen);
    const isFirst = ([name]) => FIRST.includes(name);
    const more = h("details", { class: "more-filters" }, h("summary", {}, "More filters"), h("div", { class: "tools" }, ...texts.filter((each) => !isFirst(each)).map(input), ...choices.filter((each) => !isFirst(each)).map(choice)));
    more.open = Object.entries(filter).some(([name, value]) => value && !FIRST.includes(name));
    const made = h("form", { class: "tools", role: "search", "aria-label": "Filter the live stream" }, ...texts.filter(isFirst).map(input), ...choices.filter(isFirst).map(choice), more);
    let typing = 0;
    made.addEventListener("submit", (event) => event.preventDefault());
    made.addEventListener("change", applyFilter);
    made.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(applyFilter, 300);
    });
    return made;
  }

  function address() {
    const query = new URLSearchParams({ rate: RATE_MAX, ...fixed });
    for (const [name, value] of Object.entries(filter)) {
      if (value) query.set(name, name in TEXTS && !/[*?,]/.test(value) ? `*${value}*` : value);
    }
    if (position) query.set("last_event_id", position);
    else query.set("recent", 60);
    return `/api/exposures/stream?${query}`;
  }

  function open() {
    clearTimeout(reopening);
    source?.close();
    source = new EventSource(address());
    source.addEventListener("exposure", (event) => {
      position = event.lastEventId || position;
      take(JSON.parse(event.data));
    });
    source.addEventListener("tally", (event) => {
      position = event.lastEventId || position;
      tell(JSON.parse(event.data));
    });
    source.addEventListener("status", (event) => {
      log = JSON.parse(event.data);
      showState();
    });
    source.addEventListener("error", () => {
      log = { state: "lost", message: "" };
      showState();
      if (source.readyState === EventSource.CLOSED) reopening = setTimeout(open, 2000);
    });
  }

  /** Begin anew with another filter. */
  function restart() {
    position = "";
    waiting = [];
    unseen = 0;
    isPaused = false;
    seen.clear();
    list.replaceChildren();
    log = { state: "connecting", message: "" };
    showState();
    open();
  }

  function take(exposure) {
    const key = exposure.event_id + exposure.origin + exposure.outcome;
    if (seen.has(key)) return;
    seen.add(key);
    if (seen.size > 4 * ROWS_MAX) for (const old of [...seen].slice(0, 2 * ROWS_MAX)) seen.delete(old);
    waiting.push(exposure);
    if (waiting.length > ROWS_MAX) waiting.shift();
    if (isPaused) {
      unseen += 1;
      showState();
    } else if (!isDrawing) {
      isDrawing = true;
      requestAnimationFrame(draw);
    }
  }

  function draw() {
    isDrawing = false;
    if (isPaused || waiting.length === 0) return;
    const atTop = list.scrollTop < 8;
    const before = list.scrollHeight;
    const now = performance.now();
    const isCalm = now - lastRowAt > CALM_MS && waiting.length <= CALM_ROWS;
    lastRowAt = now;
    list.prepend(...waiting.reverse().map((exposure) => row(exposure, isCalm)));
    waiting = [];
    while (list.childElementCount > ROWS_MAX) list.lastElementChild.remove();
    if (!atTop) list.scrollTop += list.scrollHeight - before; // whoever reads further down is not pushed away
    showState();
  }

  /** Every second: the true rate, and how much of it is on the page. */
  function tell(tally) {
    const wanted = Object.values(tally.rates).reduce((sum, each) => sum + each, 0);
    bars.push(wanted);
    if (bars.length > PULSE_S) bars.shift();
    drawPulse();
    const shown = tally.shown / tally.seconds;
    write(rateLabel, wanted > shown * 1.05 + 1 ? `${rate(shown)} of ${rate(wanted)}/s` : `${rate(wanted)}/s`);
    rateLabel.title =
      `${Object.entries(tally.rates).map(([name, each]) => `${compact(each)} ${name}`).join(", ") || "Nothing"} a second. ` +
      (tally.sampled_out || tally.read > tally.looked_at ? "A fair sample is shown. " : "") +
      (tally.missed ? `${count(tally.missed)} were missed.` : "");
  }

  function drawPulse() {
    const top = Math.max(1, ...bars);
    const width = 120 / PULSE_S;
    pulse.replaceChildren(
      ...bars.map((value, index) => {
        const height = value ? Math.max(1, (value / top) * 24) : 0.5;
        return svg("rect", { x: (PULSE_S - bars.length + index) * width, y: 24 - height, width: width * 0.7, height });
      }),
    );
  }

  function showState() {
    if (log.state === "lost") state(label, "down", "Connection lost, trying again");
    else if (log.state === "waiting") state(label, "down", "Waiting for the log");
    else if (isPaused) state(label, "paused", "Paused");
    else if (log.state === "live") state(label, "live", "Live");
    else state(label, "", "Connecting…");
    write(pause, isPaused ? (unseen ? `Resume (${unseen > ROWS_MAX ? `${ROWS_MAX}+` : unseen})` : "Resume") : "Pause");
    pause.setAttribute("aria-pressed", String(isPaused));
    showEmpty();
  }

  function showEmpty() {
    const isEmpty = list.childElementCount === 0 && waiting.length === 0 && log.state !== "connecting";
    nothing.hidden = !isEmpty;
    list.hidden = isEmpty;
    if (!isEmpty) return;
    const isFiltered = Object.values(filter).some(Boolean) || Object.keys(fixed).length > 0;
    const key = `${log.state} ${isFiltered}`;
    if (nothing.dataset.key === key) return;
    nothing.dataset.key = key;
    nothing.replaceChildren(why(isFiltered));
  }

  function why(isFiltered) {
    if (log.state !== "live") {
      return empty(
        "The stream is waiting",
        [log.message || "The console does not answer.", " It goes on by itself."],
        ["See what runs with ", code("headrace doctor"), "; start everything with ", code("headrace up"), "."],
      );
    }
    if (!isFiltered) return firstSteps();
    const clear = Object.values(filter).some(Boolean) ? [[h("button", { type: "button", on: { click: clearFilter } }, "Clear the filter")]] : [];
    return empty("Nothing matches yet", "Exposures appear here as they happen. Widen the filter (another tier?), or wait for the next one.", ...clear);
  }

  function clearFilter() {
    for (const control of form.elements) if (control.name) control.value = "";
    applyFilter();
  }

  function applyFilter() {
    const next = Object.fromEntries([...form.elements].filter(({ name }) => name).map(({ name, value }) => [name, value.trim()]));
    if (Object.entries(next).every(([name, value]) => (filter[name] ?? "") === value)) return;
    filter = next;
    onFilter(next);
    restart();
  }

  function setPaused(paused) {
    isPaused = paused;
    if (!paused) {
      unseen = 0;
      draw();
    }
    showState();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, select")) return;
    if (event.key === "p") setPaused(!isPaused);
    const first = [...form.elements].find((each) => each.checkVisibility());
    if (event.key === "/" && first) {
      event.preventDefault();
      first.focus();
    }
  }

  const forget = onChange((entity) => {
    for (const arm of list.querySelectorAll(`[data-entity="${CSS.escape(entity)}"]`)) {
      arm.firstElementChild.style.setProperty("--arm", colorOf(entity, arm.dataset.arm));
    }
  });
  document.addEventListener("keydown", onKey);
  showState();
  open();
  return {
    element,
    stop() {
      clearTimeout(reopening);
      source.close();
      forget();
      document.removeEventListener("keydown", onKey);
    },
  };
}

export const live = {
  path: "/live",
  section: "live",
  title: () => "Live",
  open(root, { query }) {
    const filter = Object.fromEntries([...Object.keys(TEXTS), ...Object.keys(CHOICES)].map((name) => [name, query.get(name) ?? ""]));
    const made = stream({ filter, onFilter: keep, level: "h1" });
    root.append(made.element, h("p", { class: "keys" }, h("kbd", {}, "/"), " filter ", h("kbd", {}, "p"), " pause"));
    return made.stop;
  },
};
