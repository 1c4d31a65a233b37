// Charts, drawn by Chart.js, which the console serves out of a jar. Each has its figures as a table beside it,
// which is all there is where the library is missing.

import { h, table } from "./dom.js";

const ADDRESS = "/vendor/chart.js";
let loading = null;

/** Load the library once; null where it is not there. */
function library() {
  loading ??= new Promise((done) => {
    const script = h("script", { src: ADDRESS, on: { load: () => done(globalThis.Chart ?? null), error: () => done(null) } });
    document.head.append(script);
  });
  return loading;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const ink = (element, name) => getComputedStyle(element).getPropertyValue(name).trim();
const colorIn = (element, color) => (color.startsWith("var(") ? ink(element, color.slice(4, -1)) : color);

const pad = (number) => String(number).padStart(2, "0");
export function moment(ms, spanMs) {
  const time = new Date(ms);
  const clock = `${pad(time.getHours())}:${pad(time.getMinutes())}`;
  const day = `${time.getDate()} ${time.toLocaleString("en", { month: "short" })}`;
  return spanMs > 3 * 86_400_000 ? day : spanMs > 86_400_000 ? `${day} ${clock}` : clock;
}

const once = (label, before) => (label === before ? "" : label);

/**
 * A chart of lines over time. `update({series, boundary, says})` draws it: series are {label, color, points: [[ms, y]], thin},
 * `boundary` a height with a word, `says` the sentence that tells those who do not see it what is to be seen.
 */
export function lines(name, { unit = "", format = String } = {}) {
  const canvas = h("canvas", { role: "img", "aria-label": name });
  const plot = h("div", { class: "plot" }, canvas);
  const legend = h("ul", { class: "legend", "aria-hidden": "true" });
  const missing = h("p", { class: "hint missing", hidden: true });
  const figures = h("div", { class: "figures" });
  const details = h("details", { class: "as-table" }, h("summary", {}, "Figures as a table"), figures);
  const element = h("figure", { class: "chart", "aria-label": name }, plot, legend, missing, details);
  let chart = null;
  let shown = null;

  const datasets = () =>
    shown.series.map(({ label, color, points, thin, dashed }) => {
      const stroke = colorIn(element, color);
      const data = points.map(([x, y]) => ({ x, y }));
      return { label, data, borderColor: stroke, backgroundColor: stroke, borderWidth: thin ? 1 : 2, borderDash: dashed ? [5, 4] : [], pointRadius: points.length === 1 ? 3 : 0, pointHitRadius: 12, tension: 0 };
    });

  function options() {
    const every = shown.series.flatMap(({ points }) => points.map(([x]) => x));
    const [first, last] = [Math.min(...every), Math.max(...every)];
    const soft = ink(element, "--soft");
    const grid = { color: ink(element, "--line"), drawTicks: false };
    return {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      normalized: true,
      parsing: false,
      interaction: { mode: "nearest", axis: "x", intersect: false },
      scales: {
        x: { type: "linear", min: first, max: last > first ? last : first + 1, grid: { display: false }, border: { color: ink(element, "--line-strong") }, ticks: { color: soft, maxRotation: 0, maxTicksLimit: 7, font: { size: 11 }, callback: (ms, index, ticks) => once(moment(ms, last - first), index && moment(ticks[index - 1].value, last - first)) } },
        y: { beginAtZero: true, grid, border: { display: false }, ticks: { color: soft, maxTicksLimit: 6, font: { size: 11 }, padding: 6, callback: format } },
      },
      plugins: {
        legend: { display: false },
        tooltip: { callbacks: { title: ([item]) => new Date(item.parsed.x).toLocaleString("en-GB"), label: (item) => `${item.dataset.label}: ${format(item.parsed.y)} ${unit}` } },
      },
    };
  }

  async function draw() {
    const Chart = await library();
    if (!Chart) {
      plot.hidden = true;
      missing.hidden = false;
      missing.textContent = globalThis.chartsMissing ?? "Charts are not available; the figures stand in the table.";
      details.open = true;
      return;
    }
    if (!element.isConnected) return;
    if (chart) {
      chart.data.datasets = datasets();
      chart.options = options();
      chart.update("none");
    } else chart = new Chart(canvas, { type: "line", data: { datasets: datasets() }, options: options() });
  }

  function showTable() {
    const times = [...new Set(shown.series.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => b - a);
    const at = shown.series.map(({ points }) => new Map(points));
    const rows = times.slice(0, 240).map((ms) => [new Date(ms).toLocaleString("en-GB"), ...at.map((each) => (each.has(ms) ? format(each.get(ms)) : "–"))]);
    figures.replaceChildren(table(`${name}, figures`, [{ name: "Time" }, ...shown.series.map(({ label }) => ({ name: label, number: true }))], rows));
  }

  const onScheme = () => shown && draw();
  dark.addEventListener("change", onScheme);
  details.addEventListener("toggle", () => details.open && shown && showTable());

  return {
    element,
    update({ series, says }) {
      const text = JSON.stringify(series);
      if (shown?.text === text) return;
      shown = { series, text };
      canvas.setAttribute("aria-label", says);
      legend.replaceChildren(...series.map(({ label, color, dashed }) => h("li", { class: dashed ? "dashed" : "" }, h("i", { css: { "--arm": color } }), label)));
      if (details.open) showTable();
      draw();
    },
    stop() {
      dark.removeEventListener("change", onScheme);
      chart?.destroy();
    },
  };
}
