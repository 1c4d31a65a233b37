// Where an event is, hop by hop: by its id, its request's id or its unit's.

import { ask } from "./api.js";
import { empty, h } from "./dom.js";
import { duration } from "./format.js";
import { go } from "./router.js";

const WORDS = { accepted: "Accepted", enriched: "Enriched", landed: "Landed", "landed again": "Landed again", dead: "Dead" };
const QUIET = ["hop", "at"];

function hop(each, before) {
  const after = each.at && before ? Date.parse(each.at) - Date.parse(before) : null;
  const facts = Object.entries(each).filter(([name, value]) => !QUIET.includes(name) && value !== "" && value !== null);
  return h(
    "li",
    { class: "hop", "data-hop": each.hop },
    h("strong", {}, WORDS[each.hop] ?? each.hop),
    h("span", { class: "when" }, each.at ? h("time", { datetime: each.at }, each.at.replace("T", " ").replace("Z", "")) : "", after === null ? "" : ` +${duration(after)}`),
    h("dl", {}, ...facts.flatMap(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, String(value))])),
  );
}

function event(each) {
  const hops = each.hops.map((one, index) => hop(one, each.hops.slice(0, index).findLast(({ at }) => at)?.at));
  return h(
    "article",
    { class: "panel event" },
    h("div", { class: "title" }, h("h2", {}, each.name || "(no name)"), h("span", { class: "kind" }, `${each.project} / ${each.environment}`)),
    h("p", { class: "ids" }, h("a", { href: `/events/${encodeURIComponent(each.event_id || each.origin)}` }, each.event_id || each.origin), each.unit_id ? ` unit ${each.unit_id}` : ""),
    h("ol", { class: "hops" }, ...hops),
  );
}

export const events = {
  path: "/events",
  section: "events",
  title: ({ name }) => (name ? `Event ${name}` : "Events"),
  open(root, { name = "" }) {
    const field = h("input", { type: "search", name: "event", id: "event", value: name, placeholder: "Event id, request id or unit", "aria-label": "Event id, request id or unit", autocomplete: "off", spellcheck: "false", maxlength: 500 });
    const form = h("form", { class: "tools lookup", role: "search", "aria-label": "Find an event" }, field, h("button", { class: "primary", type: "submit" }, "Find"));
    const result = h("div", { id: "events", "aria-live": "polite" });
    form.addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      const wanted = field.value.trim();
      if (wanted) go(`/events/${encodeURIComponent(wanted)}`);
    });
    root.append(h("div", { class: "head bare" }, h("h1", {}, "Events")), form, result);
    const asked = new AbortController();
    if (name) find(name, result, asked.signal);
    else result.append(empty("Where is my event?", "Enter an event's id, a request's id or a unit's: its way is shown from the gateway to the store, or to where it died and why.", "The live stream links each exposure to its way."));
    return () => asked.abort();
  },
};

async function find(name, result, signal) {
  result.replaceChildren(h("p", { class: "hint" }, "Looking…"));
  try {
    const found = await ask(`/api/events/${encodeURIComponent(name)}`, { signal });
    result.replaceChildren(...found.events.map(event), found.truncated ? h("p", { class: "hint" }, "There are more; ask for one of them by its event id.") : "");
  } catch (error) {
    if (error.name === "AbortError") return;
    const again = error.status === 404 ? [] : [[h("button", { type: "button", on: { click: () => find(name, result, signal) } }, "Ask again")]];
    result.replaceChildren(empty(error.status === 404 ? "Nothing is known of it" : "This cannot be said now", `${error.message} ${error.remedy}`, ...again));
  }
}
