// The live stream: one connection, a bounded list, and honesty about what is not shown.

import { armOf, colorOf, onChange } from "./arms.js";
import { $, h, state, svg, write } from "./dom.js";
import { clock, compact, count, duration, KINDS, rate, short } from "./format.js";

const ROWS_MAX = 200;
const RATE_MAX = 8; // a second: more than anybody reads
const CALM_MS = 250; // rows that come faster are not lit up: all would be
const PULSE_S = 60;

const list = $("#stream");
const filter = { name: "", kind: "", tier: "" };
let source = null;
let reopening = 0;
let position = "";
let waiting = []; // newest last, not yet on the page
let isPaused = false;
let unseen = 0;
let lastRowAt = 0;
let isDrawing = false;
let log = { state: "connecting", message: "" };
const pulse = [];
const seen = new Set(); // a resumed stream may repeat its last few

function address() {
  const query = new URLSearchParams({ rate: RATE_MAX });
  if (filter.name) query.set("name", /[*?]/.test(filter.name) ? filter.name : `*${filter.name}*`);
  if (filter.kind) query.set("kind", filter.kind);
  if (filter.tier) query.set("tier", filter.tier);
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
  const key = exposure.event_id + exposure.origin;
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
  list.prepend(...waiting.reverse().map(row));
  waiting = [];
  while (list.childElementCount > ROWS_MAX) list.lastElementChild.remove();
  if (!atTop) list.scrollTop += list.scrollHeight - before; // whoever reads further down is not pushed away
  showState();
}

function row(exposure) {
  const entity = `${exposure.kind}/${exposure.name}`;
  const arm = armOf(exposure);
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
      ),
      h("span", { class: "arm", "data-entity": entity, "data-arm": arm }, h("i", { css: { "--arm": colorOf(entity, arm) } }), h("span", {}, arm)),
      h("span", { class: "unit", title: `${exposure.unit_type} ${exposure.unit_id}` }, short(exposure.unit_id) || "–"),
      h("span", { class: "sdk", title: `${exposure.sdk_type} ${exposure.sdk_version}` }, exposure.sdk_type.replace(/^statsig-/, "") || "–"),
    ),
  );
  details.addEventListener("toggle", () => details.open && details.childElementCount === 1 && details.append(facts(exposure)), { once: true });
  const now = performance.now();
  const isCalm = now - lastRowAt > CALM_MS;
  lastRowAt = now;
  return h("li", { class: isCalm ? "new" : "" }, details);
}

const FACTS = {
  "Event id": (e) => e.event_id,
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
  "Event time": (e) => `${e.event_time}${e.time_flag === "ok" ? "" : ` (${e.time_flag})`}`,
  "Received after": (e) => duration(Math.max(0, e.lateness_ms)),
  "Project, environment": (e) => `${e.project}, ${e.environment}`,
  Tier: (e) => e.tier,
  SDK: (e) => `${e.sdk_type} ${e.sdk_version}`,
  Country: (e) => e.country,
};

function facts(exposure) {
  const list = h("dl", { class: "facts" });
  for (const [name, read] of Object.entries(FACTS)) {
    const text = read(exposure);
    if (text) list.append(h("div", {}, h("dt", {}, name), h("dd", {}, String(text))));
  }
  return list;
}

/** Every second: the true rate, and how much of it is on the page. */
function tell(tally) {
  const perSecond = tally.read / tally.seconds;
  pulse.push(perSecond);
  if (pulse.length > PULSE_S) pulse.shift();
  drawPulse();
  const wanted = (tally.matched * (tally.read / Math.max(1, tally.looked_at))) / tally.seconds;
  const shown = tally.shown / tally.seconds;
  const text = wanted > shown * 1.05 + 1 ? `${rate(shown)} of ${rate(wanted)}/s` : `${rate(wanted)}/s`;
  write($("#live-rate"), text);
  $("#live-rate").title =
    `${compact(perSecond)} exposures a second; ${compact(wanted)} match. ` +
    (tally.sampled_out || tally.read > tally.looked_at ? "A fair sample is shown. " : "") +
    (tally.missed ? `${count(tally.missed)} were missed.` : "");
}

function drawPulse() {
  const top = Math.max(1, ...pulse);
  const width = 120 / PULSE_S;
  $("#pulse").replaceChildren(
    ...pulse.map((value, index) => {
      const height = value ? Math.max(1, (value / top) * 24) : 0.5;
      const x = (PULSE_S - pulse.length + index) * width;
      return svg("rect", { x, y: 24 - height, width: width * 0.7, height });
    }),
  );
}

function showState() {
  const label = $("#live-state");
  if (log.state === "lost") state(label, "down", "Connection lost, trying again");
  else if (log.state === "waiting") state(label, "down", "Waiting for the log");
  else if (isPaused) state(label, "paused", "Paused");
  else if (log.state === "live") state(label, "live", "Live");
  else state(label, "", "Connecting…");
  write($("#pause"), isPaused ? (unseen ? `Resume (${unseen > ROWS_MAX ? `${ROWS_MAX}+` : unseen})` : "Resume") : "Pause");
  $("#pause").setAttribute("aria-pressed", String(isPaused));
  showEmpty();
}

function showEmpty() {
  const box = $("#live-empty");
  const isEmpty = list.childElementCount === 0 && waiting.length === 0 && log.state !== "connecting";
  box.hidden = !isEmpty;
  list.hidden = isEmpty;
  if (!isEmpty) return;
  const isFiltered = filter.name || filter.kind || filter.tier;
  const key = `${log.state} ${isFiltered}`;
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  if (log.state !== "live") {
    box.replaceChildren(
      h("strong", {}, "The stream is waiting"),
      h("p", {}, log.message || "The console does not answer.", " It goes on by itself."),
      h("p", {}, "See what runs with ", h("code", {}, "headrace doctor"), "; start everything with ", h("code", {}, "headrace up"), "."),
    );
  } else if (isFiltered) {
    box.replaceChildren(
      h("strong", {}, "Nothing matches yet"),
      h("p", {}, "Exposures appear here as they happen. Widen the filter, or wait for the next one."),
      h("p", {}, h("button", { type: "button", on: { click: clearFilter } }, "Clear the filter")),
    );
  } else {
    const gateway = `http://${location.hostname}:8080`;
    box.replaceChildren(
      h("strong", {}, "No exposures yet"),
      h("p", {}, "Point an SDK at ", h("code", {}, gateway), " (or the port in ", h("code", {}, "HEADRACE_GATEWAY_PORT"), "), and what it logs appears here within a second."),
      h("p", {}, "To see it work now: ", h("code", {}, "headrace demo"), " runs a real SDK through an experiment."),
    );
  }
}

function clearFilter() {
  $("#filter-name").value = "";
  $("#filter-tier").value = "";
  $('input[name="kind"][value=""]').checked = true;
  applyFilter();
}

function applyFilter() {
  const next = {
    name: $("#filter-name").value.trim(),
    kind: $('input[name="kind"]:checked').value,
    tier: $("#filter-tier").value,
  };
  if (JSON.stringify(next) === JSON.stringify(filter)) return;
  Object.assign(filter, next);
  restart();
}

/** Show only one entity. */
export function watch(name, kind) {
  $("#filter-name").value = name;
  $(`input[name="kind"][value="${CSS.escape(kind)}"]`).checked = true;
  applyFilter();
  $("#live").scrollIntoView({ block: "start" });
}

function setPaused(paused) {
  isPaused = paused;
  if (!paused) {
    unseen = 0;
    draw();
  }
  showState();
}

export function startLive() {
  let typing = 0;
  $("#live-filter").addEventListener("submit", (event) => event.preventDefault());
  $("#live-filter").addEventListener("change", applyFilter);
  $("#filter-name").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(applyFilter, 300);
  });
  $("#pause").addEventListener("click", () => setPaused(!isPaused));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    if (event.key === "p") setPaused(!isPaused);
    if (event.key === "/") {
      event.preventDefault();
      $("#filter-name").focus();
    }
  });
  onChange((entity) => {
    for (const arm of list.querySelectorAll(`[data-entity="${CSS.escape(entity)}"]`)) {
      arm.firstElementChild.style.setProperty("--arm", colorOf(entity, arm.dataset.arm));
    }
  });
  showState();
  open();
}
