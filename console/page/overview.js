// The overview: what flows, how far behind each stage is, whether everything is accounted for.

import { ask, repeat } from "./api.js";
import { $, code, empty, h, light, panel, table, write } from "./dom.js";
import { ago, compact, count, duration, rate } from "./format.js";
import { onPipeline } from "./pulse.js";

const SLOW_S = 10;
const VERY_SLOW_S = 120;
const STATIONS = { flow: ["Flow", "events/s"], worker: ["Worker", "chunks behind"], lander: ["Lander", "events behind"], store: ["Landed", "rows"], dead: ["Dead letters", "waiting"] };

function station(name, [label, unit]) {
  return h(
    "li",
    { class: "station", "data-station": name },
    h("span", { class: "label" }, label),
    h("span", { class: "figure" }, h("b", { "data-value": true }, "–"), " ", h("small", { "data-unit": true }, unit)),
    h("span", { class: "note", "data-note": true }, "\u00a0"),
  );
}

function stations(root) {
  function show(name, { value = "–", unit, note = "", health = "", flows = false, full = "" }) {
    const box = $(`[data-station="${name}"]`, root);
    write($("[data-value]", box), value);
    if (unit) write($("[data-unit]", box), unit);
    write($("[data-note]", box), note || "\u00a0");
    $("[data-value]", box).title = full;
    box.className = `station ${name === "dead" ? "aside" : ""} ${health} ${flows ? "flows" : ""}`;
  }

  function lag(name, { records }, perSecond, flows, isKnown) {
    if (records === null) return show(name, { note: isKnown ? "has read nothing yet" : "not known now" });
    const seconds = records / Math.max(1, perSecond);
    const health = seconds > VERY_SLOW_S ? "bad" : seconds > SLOW_S ? "warn" : "good";
    show(name, { value: compact(records), full: count(records), note: records && health !== "good" ? `about ${duration(seconds * 1000)}` : "keeping up", health, flows });
  }

  function landed(tables, flows) {
    if (!tables) return show("store", { health: "bad", note: "not reachable" });
    const all = Object.values(tables);
    const rows = all.reduce((sum, each) => sum + each.rows, 0);
    const last = all.map((each) => each.last_landed_at).filter(Boolean).sort().at(-1);
    const delays = all.map((each) => each.delay_p99_ms).filter((delay) => delay !== null);
    const delay = delays.length ? `p99 ${duration(Math.max(...delays))}` : "";
    const note = last ? [`last ${ago(last)}`, delay].filter(Boolean).join(", ") : "nothing yet";
    show("store", { value: compact(rows), full: count(rows), unit: rows === 1 ? "row" : "rows", note, health: "good", flows });
  }

  function dead(letters) {
    const counts = Object.values(letters);
    if (counts.includes(null)) return show("dead", {});
    const sum = counts.reduce((total, each) => total + each, 0);
    const note = Object.entries(letters).filter(([, each]) => each).map(([topic, each]) => `${topic.slice(4)} ${compact(each)}`).join(", ");
    show("dead", { value: compact(sum), full: count(sum), unit: "in the topics", note: note || "none refused", health: sum ? "warn" : "good" });
  }

  return (pipeline) => {
    if (!pipeline) {
      for (const name of Object.keys(STATIONS)) show(name, { health: "bad" });
      return;
    }
    const { log, tables } = pipeline;
    const perSecond = log.events_per_s;
    const flows = log.state === "ok" && perSecond > 0;
    show("flow", {
      value: perSecond === null ? "–" : rate(perSecond),
      note: { ok: perSecond ? "over the last minute" : "nothing is being sent", starting: "asking the log" }[log.state] ?? "log not reachable",
      health: { ok: "good", starting: "" }[log.state] ?? "bad",
      flows,
    });
    lag("worker", log.lag.worker, perSecond / 20, flows, log.state === "ok");
    lag("lander", log.lag.lander, perSecond, flows, log.state === "ok");
    landed(tables, flows);
    dead(log.dead_letters);
  };
}

const PARTS = { landed: "Landed", duplicate: "Duplicate", dead: "Dead", in_flight: "In flight", missing: "Missing" };

function ledgerOf({ totals, balanced, flaws, gaps, window }) {
  const flawed = Object.values(flaws).reduce((sum, each) => sum + each, 0);
  const word = balanced ? "Balanced" : `${count(flawed)} unaccounted for`;
  const bar = h(
    "div",
    { class: "balance", "aria-hidden": "true" },
    ...Object.keys(PARTS).map((part) => h("i", { "data-part": part, css: { "--share": `${(100 * totals[part]) / Math.max(1, totals.accepted)}%` } })),
  );
  const facts = Object.entries(PARTS).map(([part, name]) => h("div", { "data-part": part }, h("dt", {}, name), h("dd", {}, count(totals[part]))));
  return [
    h("p", { class: "lead" }, light(balanced ? "green" : "red", word), ` ${count(totals.accepted)} events accepted in the last ${window === "1h" ? "hour" : window}.`),
    totals.accepted ? bar : "",
    h("dl", { class: "parts" }, ...facts),
    balanced
      ? ""
      : h("p", { class: "hint" }, `First: ${gaps.slice(0, 3).map((gap) => `${gap.flaw} ${gap.range}`).join(", ")}. `, code("headrace ledger"), " lists them all."),
  ];
}

function attention(found) {
  const bad = found.filter(({ health }) => health && (health.light === "red" || health.light === "yellow"));
  const judged = found.filter(({ health }) => health).length;
  if (!found.length) return [firstSteps()];
  if (!bad.length) return [h("p", { class: "lead" }, light("green", "Nothing to mend"), judged ? ` ${count(judged)} ${judged === 1 ? "experiment was" : "experiments were"} judged.` : " No experiment could be judged yet.")];
  return [
    h(
      "ul",
      { class: "attention" },
      ...bad.map(({ name, health }) => h("li", {}, light(health.light), h("a", { href: `/experiments/${encodeURIComponent(name)}` }, name || "(no name)"), h("span", {}, health.why))),
    ),
  ];
}

/** The three lines that point an SDK here. */
export function firstSteps() {
  const gateway = `${location.protocol}//${location.hostname}:8080`;
  return empty(
    "No exposures yet: point an SDK here",
    h(
      "ol",
      { class: "steps" },
      h("li", {}, "Make a key: ", code("headrace keys create --kind secret")),
      h("li", {}, "Give the SDK this address for its log events: ", code(`${gateway}/v1/log_event`), " (the port is ", code("HEADRACE_GATEWAY_PORT"), ")"),
      h("li", {}, "Check a gate or an experiment: what it logs appears here within a second"),
    ),
    ["To see it work now: ", code("headrace demo"), " runs a real SDK through an experiment."],
  );
}

const refusal = (error) => empty("This cannot be said now", `${error.message} ${error.remedy}`, "It is tried again by itself.");

async function fill(box, path, content) {
  try {
    box.replaceChildren(...content(await ask(path)));
  } catch (error) {
    if (!box.childElementCount || box.dataset.state !== "shown") box.replaceChildren(refusal(error));
    return;
  }
  box.dataset.state = "shown";
}

function deadTable({ groups }) {
  if (!groups.length) return [h("p", { class: "lead" }, light("green", "None"), " No event is dead.")];
  const rows = groups.slice(0, 5).map((group) => [h("a", { href: `/dead-letters?reason=${encodeURIComponent(group.reason)}` }, group.reason), group.stage, count(group.dead), ago(group.last)]);
  return [table("Dead letters by reason", [{ name: "Reason" }, { name: "Stage" }, { name: "Dead", number: true }, { name: "Last", number: true }], rows)];
}

export const overview = {
  path: "/",
  section: "overview",
  title: () => "Overview",
  open(root) {
    const race = h("ol", { class: "race", "aria-label": "The path of an event" }, ...Object.entries(STATIONS).map(([name, words]) => station(name, words)));
    const ledger = h("div", { class: "body" });
    const health = h("div", { class: "body" });
    const dead = h("div", { class: "body" });
    root.append(
      h("h1", { class: "unseen" }, "Overview"),
      h("section", { class: "panel flow", "aria-label": "Flow" }, race),
      h(
        "div",
        { class: "cards" },
        panel("Experiments", { id: "attention", beside: [h("a", { href: "/experiments" }, "All")] }, health),
        panel("Ledger", { id: "ledger", beside: [h("span", { class: "hint" }, "Last hour")] }, ledger),
        panel("Dead letters", { id: "dead", beside: [h("a", { href: "/dead-letters" }, "All")] }, dead),
      ),
    );
    const forget = onPipeline(stations(root));
    const asking = repeat(5000, () =>
      Promise.all([
        fill(health, "/api/experiments?window=7d", ({ experiments }) => attention(experiments)),
        fill(ledger, "/api/ledger?window=1h", ledgerOf),
        fill(dead, "/api/dead-letters?by=stage,reason", deadTable),
      ]),
    );
    return () => {
      forget();
      asking.stop();
    };
  },
};

