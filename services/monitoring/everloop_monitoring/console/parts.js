
"use strict";
/* What the sections are built of. Text from events reaches the page as text nodes and attributes only, never as markup. */

const NONE = "–";
const byId = id => document.getElementById(id);

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.flat(2).filter(child => child !== null && child !== undefined && child !== false));
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/* Numbers and times, as a person reads them. */
const count = n => n.toLocaleString("en");
const number = v => v == null ? NONE : v.toLocaleString("en", { maximumSignificantDigits: 3 });
const percent = (v, digits = 1) => v == null ? NONE : (100 * v).toFixed(digits) + "\u00a0%";

function duration(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 1) return Math.round(1000 * seconds) + "\u00a0ms";
  const [unit, length] = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]].find(([, length]) => seconds >= length);
  return number(seconds / length) + "\u00a0" + unit;
}

function time(iso) {
  const at = new Date(iso), isToday = at.toDateString() === new Date().toDateString();
  const shown = isToday ? at.toLocaleTimeString("en-GB") : at.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return el("time", { dateTime: iso, title: at.toLocaleString("en-GB") }, shown);
}

const NAMES = { mae: "MAE", rmse: "RMSE", r2: "R²", mape: "MAPE", f1: "F1", f1_macro: "F1 macro", roc_auc: "ROC AUC", pr_auc: "PR AUC",
  log_loss: "log loss", brier: "Brier", ece: "calibration error" };
const SHARES = new Set(["accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro"]);
const metricName = name => NAMES[name] ?? name.replaceAll("_", " ");
const sentence = text => text[0].toUpperCase() + text.slice(1);
const score = (name, v) => SHARES.has(name) ? percent(v) : number(v);
const lineOf = version => version.includes("@") ? version.slice(0, version.lastIndexOf("@")) : version;

/* A table that scrolls by itself where it is too wide. Heads are texts; a head with `words: true` is not a number's. */
function table(label, heads, ...bodies) {
  const head = heads.map(h => el("th", { scope: "col", className: h.words ? "words" : "" }, h.text ?? h));
  return el("div", { className: "scroll", role: "region", "aria-label": label, "data-key": "table " + label },
    el("table", {}, el("thead", {}, el("tr", {}, ...head)), ...bodies));
}

function row(first, ...cells) {
  const data = cells.map(cell => cell instanceof Node && cell.tagName === "TD" ? cell : el("td", {}, cell));
  return el("tr", {}, el("th", { scope: "row" }, first), ...data);
}
const words = (...children) => el("td", { className: "words" }, ...children);
const empty = text => el("p", { className: "empty" }, text);
const note = (...children) => el("p", { className: "note" }, ...children);
const tag = (text, colour = "") => el("span", { className: "tag " + colour }, text);

const WHISKER = { width: 150, height: 16 };

/* An interval with its value as a dot, on a scale from `from` to `to`; `reference` is a dashed line. */
function whisker({ low, high, value }, from, to, reference) {
  if (value == null) return NONE;
  const { width, height } = WHISKER, middle = height / 2;
  const x = v => 4 + (width - 8) * Math.min(1, Math.max(0, (v - from) / (to - from || 1)));
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
    svg("line", { x1: 4, x2: width - 4, y1: middle, y2: middle, stroke: "var(--line)" }));
  if (low != null && high != null) {
    root.append(svg("line", { x1: x(low), x2: x(high), y1: middle, y2: middle, stroke: "var(--served)", "stroke-width": 4, "stroke-opacity": .45 }));
  }
  if (reference != null) {
    root.append(svg("line", { x1: x(reference), x2: x(reference), y1: 0, y2: height, stroke: "var(--nochange)", "stroke-dasharray": "3 2" }));
  }
  root.append(svg("circle", { cx: x(value), cy: middle, r: 4, fill: "var(--served)" }));
  return root;
}

/* What the reader has opened stays open when the page is drawn anew. */
const opened = new Set();

function opener(id, key, text, onOpen = () => {}) {
  const toggle = () => {
    if (!opened.delete(key)) {
      opened.add(key);
      onOpen();
    }
    redraw(id);
  };
  return el("button", { type: "button", "data-key": key, "aria-expanded": String(opened.has(key)), onclick: toggle }, text);
}

/* Draw a part of the page where its data have changed; focus and scroll positions stay where they were. */
const drawn = new Map();

function draw(id, data, build) {
  const sign = JSON.stringify([data, document.documentElement.clientWidth]);
  if (drawn.get(id)?.sign === sign) return;
  drawn.set(id, { sign, data, build });
  redraw(id);
}

function redraw(id) {
  const host = byId(id), { data, build } = drawn.get(id), keyed = () => [...host.querySelectorAll("[data-key]")];
  const focused = host.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const places = new Map(keyed().map(node => [node.dataset.key, [node.scrollLeft, node.scrollTop]]));
  host.replaceChildren(...[build(data)].flat(2).filter(Boolean));
  for (const node of host.querySelectorAll(".scroll")) if (node.scrollWidth > node.clientWidth) node.tabIndex = 0;
  for (const node of keyed()) {
    [node.scrollLeft, node.scrollTop] = places.get(node.dataset.key) ?? [0, 0];
    if (node.dataset.key === focused) node.focus({ preventScroll: true });
  }
}
