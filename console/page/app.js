// The console's page: plain modules, nothing built, nothing loaded from elsewhere.

import { $, code, empty, h } from "./dom.js";
import { events } from "./events.js";
import { experiment } from "./experiment.js";
import { experiments } from "./experiments.js";
import { letters } from "./letters.js";
import { live } from "./live.js";
import { overview } from "./overview.js";
import { startPulse } from "./pulse.js";
import { start } from "./router.js";
import { signIn } from "./signin.js";
import { sql } from "./sql.js";

const VIEWS = [overview, experiments, experiment, live, { ...events, path: "/events/:name" }, events, letters, sql];

const lost = {
  section: "",
  title: () => "No such page",
  open: (root, { path }) => {
    root.append(h("h1", {}, "No such page"), empty("There is nothing at this address", [code(path)], [h("a", { href: "/" }, "Go to the overview")]));
    return () => {};
  },
};

function show(view, parameters, isFirst) {
  const shown = view ?? lost;
  const root = $("#view");
  root.replaceChildren();
  root.className = `view ${shown.section}`;
  document.title = `${shown.title(parameters)} · Headrace`;
  for (const link of document.querySelectorAll(".sections a")) {
    if (link.dataset.section === shown.section) {
      link.setAttribute("aria-current", "page");
      link.parentElement.scrollLeft = link.offsetLeft - 40; // on a phone they do not all fit
    } else link.removeAttribute("aria-current");
  }
  const close = shown.open(root, parameters);
  if (!isFirst) {
    scrollTo(0, 0);
    const heading = $("h1", root);
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
  }
  return close;
}

document.addEventListener("signed-out", signIn, { once: true });

startPulse();
start(VIEWS, show);
