
/* The latest predictions; one that is opened shows its features, and what each contributed. Importance by version. */

const text = value => value == null ? NONE : typeof value === "number" ? number(value) : String(value);

function predictions(answer) {
  const anomalies = answer.some(one => one.anomaly != null);
  const heads = ["time", { text: "entity", words: true }, { text: "prediction", words: true }, "probability", { text: "label", words: true },
    ...(anomalies ? ["anomaly"] : []), { text: "version", words: true }];
  const bodies = answer.map(one => {
    const key = "prediction " + one.id, right = one.correct;
    const label = one.label == null ? NONE : [right == null ? "" : right ? "✓ " : "✗ ", text(one.label)];
    const main = row(opener("predictions-body", key, time(one.time)), words(one.entity), words(text(one.prediction)),
      probability(one), words(label), ...(anomalies ? [number(one.anomaly)] : []), words(one.version));
    return el("tbody", {}, main, opened.has(key) && el("tr", {}, el("td", { colSpan: heads.length }, details(one))));
  });
  const isOpen = answer.some(one => opened.has("prediction " + one.id));
  return [table("latest predictions", heads, ...bodies), isOpen && note("Later ones are shown once all are closed.")];
}

function probability({ prediction, probabilities }) {
  return percent(probabilities?.[String(prediction)]);
}

/* A bar to the right of the middle for what speaks for the prediction, and to the left for what speaks against it. */
function contribution(v, most) {
  const half = 60, length = half * Math.abs(v) / most;
  return svg("svg", { width: 2 * half, height: 10, viewBox: `0 0 ${2 * half} 10`, "aria-hidden": "true" },
    svg("line", { x1: half, x2: half, y1: 0, y2: 10, stroke: "var(--majority)" }),
    svg("rect", { x: v < 0 ? half - length : half, y: 2, width: length, height: 6, fill: v < 0 ? "var(--nochange)" : "var(--served)" }));
}

/* The features in the order of what they contributed. */
function details(one) {
  const parts = one.explanation?.contributions ?? {}, names = Object.keys({ ...parts, ...one.features });
  const size = name => Math.abs(parts[name] ?? 0), most = Math.max(...names.map(size), 1e-12);
  names.sort((a, b) => size(b) - size(a));
  const explained = name => parts[name] == null ? [NONE, words()] : [number(parts[name]), words(contribution(parts[name], most))];
  const rows = names.map(name => row(name, text(one.features[name]), ...(one.explanation ? explained(name) : [])));
  for (const name of one.personal) rows.push(row(name, "personal, not shown", ...(one.explanation ? [NONE, words()] : [])));
  const heads = ["feature", "value", ...(one.explanation ? ["contribution", { text: "against and for", words: true }] : [])];
  const scale = { log_odds: "log odds", margin: "margin", probability: "probability" }[one.explanation?.scale] ?? "score";
  const said = one.explanation && `With a base of ${number(one.explanation.base)} they sum to the model's ${scale}`
    + `${one.explanation.of == null ? "" : " for " + one.explanation.of} (${one.explanation.method}).`;
  return [note(`${one.id}, by ${one.version} as ${one.role}`), table("features of " + one.id, heads, el("tbody", {}, rows)),
    note(said ?? "A prediction by REST that is asked for with explain: true has its explanation here.")];
}

const MOST_LINES_COMPARED = 4;

/* What the newest version of each line depends on, side by side. */
function importance({ versions }) {
  const newest = [];
  for (const one of versions) if (!newest.some(other => lineOf(other.version) === lineOf(one.version))) newest.push(one);
  const shown = newest.slice(0, MOST_LINES_COMPARED), names = [...new Set(shown.flatMap(one => Object.keys(one.importance)))];
  const most = Math.max(...shown.flatMap(one => Object.values(one.importance)), 1e-12);
  const bar = share => el("span", { className: "share" }, el("i", { style: `width: ${Math.round(100 * share / most)}px` }), percent(share));
  const rows = names.map(name => row(name, ...shown.map(one => words(one.importance[name] == null ? NONE : bar(one.importance[name])))));
  return table("importance of features", ["feature", ...shown.map(one => ({ text: one.version, words: true }))], el("tbody", {}, rows));
}
