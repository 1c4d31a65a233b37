// Addresses: each view has a real one, that can be kept, sent and gone back to.

let views = [];
let current = null;
let show = () => {};

/** Turn `/experiments/:name` and `/experiments/a%2Fb` into {name: "a/b"}; null when they do not fit. */
function match(pattern, path) {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return null;
  const found = {};
  for (const [index, part] of wanted.entries()) {
    if (part.startsWith(":") && given[index]) {
      try {
        found[part.slice(1)] = decodeURIComponent(given[index]);
      } catch {
        return null;
      }
    } else if (part !== given[index]) return null;
  }
  return found;
}

function open(isFirst) {
  const path = location.pathname.replace(/(.)\/$/, "$1");
  for (const view of views) {
    const parameters = match(view.path, path);
    if (!parameters) continue;
    current?.();
    current = show(view, { ...parameters, query: new URLSearchParams(location.search) }, isFirst);
    return;
  }
  current?.();
  current = show(null, { path }, isFirst);
}

export function go(address) {
  history.pushState(null, "", address);
  open(false);
}

/** Keep a choice in the address without a step in the history. */
export function keep(changes) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) value ? query.set(name, value) : query.delete(name);
  const text = query.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : ""));
}

export const again = () => open(false);

/** Begin; `show(view, parameters, isFirst)` puts a view on the page and returns what ends it. */
export function start(all, showing) {
  views = all;
  show = showing;
  addEventListener("popstate", () => open(false));
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (link.origin !== location.origin || link.hasAttribute("download") || link.hash || link.dataset.plain !== undefined) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
  open(true);
}
