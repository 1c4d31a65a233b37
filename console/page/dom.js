// Making elements. Whatever comes from outside goes in as text or as an attribute, never as markup.

export const $ = (selector, within = document) => within.querySelector(selector);

/** Make an element: `class`, `data` and `on` are taken apart, other properties become attributes. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name === "class") element.className = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "css") for (const [property, text] of Object.entries(value)) element.style.setProperty(property, text);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Write a text only where it changed, so that screen readers and selections are left alone. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** What there is to say when there is nothing to show: what is so, and what to do. */
export const empty = (title, ...lines) => h("div", { class: "empty" }, h("strong", {}, title), ...lines.map((line) => h("p", {}, ...[line].flat())));

export const code = (text) => h("code", {}, text);

/** A sentence of the API's, in which `…` is code. */
export const said = (text) => text.split("`").map((part, index) => (index % 2 ? code(part) : part));

/** A section with a heading, and what stands beside it. */
export function panel(title, { id, beside = [], level = "h2", className = "" } = {}, ...content) {
  return h(
    "section",
    { class: `panel ${className}`, "aria-labelledby": id },
    h("div", { class: "head" }, h(level, { id }, title), h("span", { class: "gap" }), ...beside),
    ...content,
  );
}

/** A table: columns are {name, number}; cells are texts or elements. */
export function table(caption, columns, rows, className = "") {
  return h(
    "div",
    { class: `table ${className}`, tabindex: 0, role: "region", "aria-label": `${caption}: table` },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, ...columns.map(({ name, number }) => h("th", { scope: "col", class: number ? "number" : "" }, name)))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((cell, index) => tableCell(cell, index, columns[index]))))),
    ),
  );
}

function tableCell(cell, index, { number }) {
  const properties = { class: number ? "number" : "" };
  return index ? h("td", properties, cell ?? "–") : h("th", { scope: "row", ...properties }, cell ?? "–");
}

/** A light says by its word as well what it says by its colour. */
export const LIGHTS = { green: "Healthy", yellow: "Look at it", red: "Broken", unknown: "Not known yet" };
export const light = (name, word = LIGHTS[name]) => h("span", { class: "light", "data-light": name }, word);

/** Show a state and its word, for example "live". */
export function state(element, name, text) {
  if (name) element.dataset.state = name;
  else delete element.dataset.state;
  write(element, text);
}
