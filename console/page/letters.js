// Dead letters: how many events are dead, where and why, and what a replay would make of them.

import { ask, repeat } from "./api.js";
import { code, empty, h, light, panel, table } from "./dom.js";
import { ago, count } from "./format.js";
import { keep } from "./router.js";

const STAGES = { "": "Every stage", ingest: "Gateway", worker: "Worker", lander: "Lander" };
const SINCE = { "": "Since ever", "1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days" };
const FATES = { "would succeed": "green", "still fails": "red", "cannot be replayed": "red", "fix does not apply": "yellow", parked: "yellow" };
const FILTERS = ["reason", "stage", "environment", "event", "since"];

const select = (id, label, of, value) => h("select", { id, name: id, "aria-label": label }, ...Object.entries(of).map(([each, word]) => h("option", { value: each, selected: each === value }, word)));
const text = (id, label, value) => h("input", { type: "search", id, name: id, placeholder: label, "aria-label": label, value, autocomplete: "off", spellcheck: "false", maxlength: 200 });

function groupsTable(groups) {
  const rows = groups.map((group) => [
    h("span", {}, h("b", {}, group.reason), group.class === "ours" ? h("span", { class: "tier" }, "ours") : null, h("small", { class: "said" }, group.message)),
    group.stage,
    group.event || "–",
    group.environment || "–",
    count(group.dead),
    count(group.landed),
    ago(group.last),
    group.sample.startsWith("dlq.") || !group.sample ? group.sample || "–" : h("a", { href: `/events/${encodeURIComponent(group.sample)}` }, group.sample.slice(0, 12)),
  ]);
  return table(
    "Dead letters",
    [{ name: "Reason" }, { name: "Stage" }, { name: "Event" }, { name: "Environment" }, { name: "Dead", number: true }, { name: "Landed since", number: true }, { name: "Last", number: true }, { name: "Sample" }],
    rows,
    "letters",
  );
}

function forecastTable({ predictions, unreadable }) {
  if (!predictions.length && !unreadable) return empty("Nothing to replay", "No dead letter fits these filters, or all of them have landed since.");
  const rows = predictions.map(({ reason, fate, why, events }) => [reason, light(FATES[fate] ?? "unknown", fate), why || "–", count(events)]);
  return h(
    "div",
    {},
    table("What would become of them", [{ name: "Reason" }, { name: "Would become" }, { name: "Why" }, { name: "Events", number: true }], rows),
    unreadable ? h("p", { class: "hint body" }, `${count(unreadable)} records are no envelopes.`) : null,
  );
}

/** The command that does it in earnest, for a terminal. */
function inEarnest(filters) {
  const quoted = (value) => (/^[\w.:@-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`);
  const words = Object.entries(filters).map(([name, value]) => `--${name} ${quoted(value)}`);
  return ["headrace dlq replay", ...(words.length ? words : ["--all"])].join(" ");
}

export const letters = {
  path: "/dead-letters",
  section: "letters",
  title: () => "Dead letters",
  open(root, { query }) {
    const given = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
    const run = h("button", { class: "primary", type: "submit", id: "rehearse" }, "Dry run");
    const form = h(
      "form",
      { class: "tools", role: "search", "aria-label": "Choose dead letters" },
      text("reason", "Reason", given.reason),
      select("stage", "Stage", STAGES, given.stage),
      text("event", "Event name", given.event),
      text("environment", "Environment", given.environment),
      select("since", "Failed since", SINCE, given.since),
      run,
    );
    const box = h("div", { id: "letters" });
    const result = h("div", { id: "forecast", "aria-live": "polite" });
    const outcome = panel("Dry run of a replay", { id: "dry-run", className: "wide" }, result);
    outcome.hidden = true;
    root.append(h("div", { class: "head bare" }, h("h1", {}, "Dead letters"), h("span", { class: "hint" }, "Nothing is ever thrown away: what cannot be processed waits here until it is replayed.")), form, outcome, h("section", { class: "panel", "aria-label": "Dead letters by reason" }, box));

    const chosen = () => Object.fromEntries([...form.elements].filter(({ name, value }) => name && value.trim()).map(({ name, value }) => [name, value.trim()]));
    let groups = null;

    function draw() {
      if (!groups) return;
      const { reason, stage, event, environment } = chosen();
      const fits = (group) => (!reason || group.reason === reason) && (!stage || group.stage === stage) && (!event || group.event === event) && (!environment || group.environment === environment);
      const shown = groups.filter(fits);
      if (shown.length) box.replaceChildren(groupsTable(shown));
      else if (groups.length) box.replaceChildren(empty("No dead letter fits", "Widen the filters: they are compared whole."));
      else box.replaceChildren(empty("No event is dead", "What a stage refuses waits here with its reason, and can be replayed once what was wrong is mended."));
    }

    const asking = repeat(5000, async () => {
      const { since } = chosen();
      try {
        groups = (await ask(`/api/dead-letters?by=reason,stage,event,environment${since ? `&window=${since}` : ""}`)).groups;
      } catch (error) {
        if (!groups) box.replaceChildren(empty("The store cannot be asked", `${error.message} ${error.remedy}`, "It is tried again by itself."));
        return;
      }
      if (!box.contains(document.activeElement)) draw();
    });

    form.addEventListener("input", () => (keep(Object.fromEntries(FILTERS.map((name) => [name, chosen()[name] ?? ""]))), draw()));
    form.addEventListener("change", asking.now);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const filters = chosen();
      outcome.hidden = false;
      run.disabled = true;
      result.replaceChildren(h("p", { class: "hint body" }, "Trying every letter that fits, without sending one…"));
      try {
        const found = await ask("/api/dead-letters/dry-run", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(filters) });
        result.replaceChildren(forecastTable(found), h("p", { class: "hint body" }, "In earnest, in a terminal: ", code(inEarnest(filters))));
      } catch (error) {
        result.replaceChildren(empty("The dry run was refused", `${error.message} ${error.remedy}`));
      } finally {
        run.disabled = false;
      }
    });
    return asking.stop;
  },
};
