// The SQL box: examples, a question, and its answer as a table.

import { ask } from "./api.js";
import { $, empty, h, state } from "./dom.js";
import { count, duration } from "./format.js";

const EXAMPLES = {
  "Arms of every experiment": `SELECT name, group_name, uniqExact(unit_id) AS units, count() AS exposures
FROM exposures
WHERE kind = 'experiment' AND received_at > now() - INTERVAL 1 DAY
GROUP BY ALL
ORDER BY name, group_name`,
  "Exposures by minute": `SELECT toStartOfMinute(received_at) AS minute, count() AS exposures, uniqExact(unit_id) AS units
FROM exposures
WHERE received_at > now() - INTERVAL 1 HOUR
GROUP BY minute
ORDER BY minute DESC`,
  "Units in more than one arm": `SELECT name, unit_id, groupUniqArray(group_name) AS arms, min(received_at) AS first
FROM exposures
WHERE kind = 'experiment' AND received_at > now() - INTERVAL 1 DAY
GROUP BY name, unit_id
HAVING length(arms) > 1
LIMIT 100`,
  "From accepted to landed": `SELECT toStartOfMinute(landed_at) AS minute, count() AS landed,
  quantilesExact(0.5, 0.99)(date_diff('millisecond', received_at, landed_at)) AS p50_p99_ms
FROM exposures
WHERE received_at > now() - INTERVAL 1 HOUR
GROUP BY minute
ORDER BY minute DESC`,
  "Which SDKs send": `SELECT sdk_type, sdk_version, count() AS exposures, max(received_at) AS last
FROM exposures
WHERE received_at > now() - INTERVAL 1 DAY
GROUP BY ALL
ORDER BY exposures DESC`,
  "Custom events": `SELECT event_name, count() AS events, avg(value_number) AS mean_value
FROM custom_events
WHERE received_at > now() - INTERVAL 1 DAY
GROUP BY event_name
ORDER BY events DESC
LIMIT 50`,
  "What columns there are": `DESCRIBE exposures`,
};

const SAVED = { csv: "CSV", jsonl: "JSON lines", arrow: "Arrow" };
const KEY = "headrace.query";
const SHOWN_MAX = 1000;
let running = null;
let query = null;

async function run() {
  running?.abort();
  running = new AbortController();
  const mine = running;
  $("#sql-error").hidden = true;
  state($("#sql-state"), "", "Running…");
  try {
    const answer = await ask("/api/sql", { method: "POST", headers: { "content-type": "text/plain" }, body: query.value, signal: mine.signal });
    const { rows, elapsed_ms, truncated } = answer.statistics;
    state($("#sql-state"), "", `${count(rows)}${truncated ? "+" : ""} ${rows === 1 ? "row" : "rows"} in ${duration(elapsed_ms)}`);
    show(answer);
  } catch (error) {
    if (error.name === "AbortError") return;
    state($("#sql-state"), "", "");
    $("#result").hidden = true;
    $("#sql-error").hidden = false;
    $("#sql-error").replaceChildren(h("strong", {}, error.message || "The query failed."), error.remedy ? h("span", {}, error.remedy) : "");
  }
}

const isNumber = (type) => /^(Nullable\(|LowCardinality\()*(U?Int|Float|Decimal)/.test(type);

function show({ columns, rows, statistics }) {
  const head = h("tr", {}, ...columns.map(({ name, type }) => h("th", { scope: "col", class: isNumber(type) ? "number" : "" }, name, h("small", {}, type))));
  const body = rows.slice(0, SHOWN_MAX).map((row) => h("tr", {}, ...row.map((value, index) => cell(value, columns[index].type))));
  const notes = [];
  if (rows.length > SHOWN_MAX) notes.push(`The first ${count(SHOWN_MAX)} rows are shown.`);
  if (statistics.truncated) notes.push(`There are more than ${count(statistics.rows)} rows: add a LIMIT, or save them as CSV, JSON lines or Arrow.`);
  $("#result").hidden = false;
  $("#result").scrollTop = 0;
  $("#result").replaceChildren(
    rows.length ? h("table", {}, h("thead", {}, head), h("tbody", {}, ...body)) : empty("No rows", "The query ran, and nothing matched."),
    notes.length ? h("div", { class: "cut" }, notes.join(" ")) : "",
  );
}

function cell(value, type) {
  if (value === null) return h("td", { class: "null" }, "NULL");
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return h("td", { class: isNumber(type) ? "number" : "", title: text.length > 60 ? text.slice(0, 2000) : undefined }, text);
}

function refreshLinks() {
  for (const format of Object.keys(SAVED)) {
    $(`#save-${format}`).href = `/api/sql?${new URLSearchParams({ query: query.value, format, download: 1 })}`;
  }
}

function remember() {
  refreshLinks();
  try {
    localStorage.setItem(KEY, query.value);
  } catch {
    // Storage may be switched off; then the query is not kept.
  }
}

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function box() {
  return h(
    "section",
    { class: "panel sql", "aria-labelledby": "sql-title" },
    h("div", { class: "head" }, h("h1", { id: "sql-title" }, "SQL"), h("span", { class: "hint" }, "Read only · 10 s · 10,000 rows")),
    h(
      "div",
      { class: "sql-grid" },
      h("div", { class: "examples", id: "examples", role: "group", "aria-label": "Example queries" }),
      h(
        "form",
        { id: "sql-form", class: "query" },
        h("textarea", { id: "query", "aria-label": "SQL query", spellcheck: "false", autocapitalize: "off", autocomplete: "off", autocorrect: "off", rows: 7 }),
        h(
          "div",
          { class: "actions" },
          h("button", { id: "run", class: "primary", type: "submit" }, "Run ", h("kbd", {}, /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘ ↵" : "Ctrl ↵")),
          h("span", { class: "saves" }, "Save as ", ...Object.entries(SAVED).map(([format, name]) => h("a", { id: `save-${format}`, download: true }, name))),
          h("span", { class: "gap" }),
          h("span", { id: "sql-state", class: "state", role: "status" }),
        ),
      ),
    ),
    h("div", { id: "sql-error", class: "problem", role: "alert", hidden: true }),
    h("div", { id: "result", class: "result", tabindex: 0, role: "region", "aria-label": "Result", hidden: true }),
  );
}

export const sql = {
  path: "/sql",
  section: "sql",
  title: () => "SQL",
  open(root, { query: asked }) {
    root.append(box());
    query = $("#query");
    query.value = asked.get("query") || remembered() || Object.values(EXAMPLES)[0];
    refreshLinks();
    $("#examples").append(
      ...Object.entries(EXAMPLES).map(([title, text]) =>
        h("button", { type: "button", on: { click: () => ((query.value = text), remember(), run()) } }, title),
      ),
    );
    query.addEventListener("input", remember);
    query.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        run();
      }
    });
    $("#sql-form").addEventListener("submit", (event) => {
      event.preventDefault();
      run();
    });
    return () => running?.abort();
  },
};
