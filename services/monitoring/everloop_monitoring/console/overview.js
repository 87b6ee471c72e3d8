
/* Figures, the curves, the traffic, the timeline, and the versions by line. */

function figures({ s, regression }) {
  const error = v => regression ? number(v) : percent(v), own = s.metric.name;
  const rows = [
    ["served, last 500", error(s.accuracy.rolling)], ["served, all", error(s.accuracy.served)],
    ["no change", error(s.accuracy.no_change)], [regression ? "mean" : "majority", error(s.accuracy.majority)],
    ...(["accuracy", "mae"].includes(own) ? [] : [
      [metricName(own) + ", last 500", score(own, s.metric.rolling)], [metricName(own) + ", all", score(own, s.metric.served)]]),
    ["events", count(s.events)], ["predictions", count(s.predictions)], ["outcomes", count(s.outcomes)],
    ["drifts", count(s.drifts)], ["runs", count(s.runs)], ["promotions", count(s.promotions)],
    ["rollbacks", count(s.rollbacks)], ["dead letters", count(s.dead_letters)],
  ];
  return rows.map(([name, value]) => el("div", {}, el("b", {}, value), el("span", {}, name)));
}

const CURVES = [["majority", "majority", "2 4"], ["no_change", "nochange", "7 4"], ["served", "served", "none"]];

/* The curves of the loop's metric; points of earlier releases have none, and are accuracies or mean absolute errors. */
function chart({ points: all, drifts, metric }) {
  const points = all.filter(point => (point.metric ?? (metric === "mae" ? "mae" : "accuracy")) === metric);
  if (points.length < 2) return empty("The curves begin with the first hundred labels.");
  const width = Math.max(280, byId("chart").clientWidth), height = 260, left = 46, bottom = 22, top = 14;
  const values = points.flatMap(point => CURVES.map(([key]) => point[key]));
  let low = Math.min(...values), high = Math.max(...values);
  const pad = (high - low || 0.1) * 0.08;
  low = metric === "r2" ? low - pad : Math.max(0, low - pad);
  high = SHARES.has(metric) ? Math.min(1, high + pad) : high + pad;
  const first = points[0].outcomes, last = points.at(-1).outcomes;
  const x = outcomes => left + (width - left) * (outcomes - first) / (last - first || 1);
  const y = v => top + (height - bottom - top) * (1 - (v - low) / (high - low || 1));
  const end = points.at(-1), said = v => score(metric, v);
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Scores from outcome ${count(first)} to ${count(last)}. Last: served ${said(end.served)}, `
      + `no change ${said(end.no_change)}, majority or mean ${said(end.majority)}. ${drifts.length} drifts.` });
  const steps = width < 500 ? 3 : 5;
  for (let i = 0; i < steps; i++) {
    const part = i / (steps - 1), v = low + (high - low) * part, outcomes = first + (last - first) * part;
    root.append(
      svg("line", { x1: left, x2: width, y1: y(v), y2: y(v), stroke: "var(--line)" }),
      svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, SHARES.has(metric) ? percent(v, 0) : number(v)),
      svg("text", { x: x(outcomes), y: height - 4, "text-anchor": part === 1 ? "end" : part ? "middle" : "start" },
        count(Math.round(outcomes))));
  }
  const mark = (at, colour, form, title) => root.append(svg("g", {}, svg("title", {}, title),
    svg("line", { x1: x(at), x2: x(at), y1: top, y2: height - bottom, stroke: `var(--${colour})`, "stroke-dasharray": "4 3" }),
    svg("text", { x: x(at), y: top - 3, "text-anchor": "middle", class: colour, fill: "currentColor" }, form)));
  for (const drift of drifts) if (drift.data.outcomes >= first) mark(drift.data.outcomes, "drift", "▼", drift.what);
  const lineAt = point => lineOf(point.champion ?? point.version);
  points.forEach((point, i) => {
    if (i && lineAt(point) !== lineAt(points[i - 1])) mark(point.outcomes, "promotion", "▲", lineAt(point) + " is champion");
  });
  for (const [key, colour, dash] of CURVES) {
    const d = points.map((p, i) => `${i ? "L" : "M"}${x(p.outcomes).toFixed(1)} ${y(p[key]).toFixed(1)}`).join("");
    root.append(svg("path", { d, fill: "none", stroke: `var(--${colour})`, "stroke-linejoin": "round",
      "stroke-width": key === "served" ? 2.5 : 1.5, "stroke-dasharray": dash }));
  }
  return root;
}

function shares({ champion, rollout }) {
  const { candidate, share, stage, approval } = rollout, serves = candidate && share > 0;
  const part = (kind, share) => el("div", { className: kind, style: `flex: 0 0 ${100 * share}%` });
  const bar = el("div", { className: "bar", "aria-hidden": "true" }, part("champion", 1 - (serves ? share : 0)), serves && part("canary", share));
  const named = (kind, text) => el("span", {}, el("i", { className: "block " + kind }), text);
  const said = !serves && candidate ? `${candidate} predicts in shadow`
    : stage === "training" ? "A fresh version of the line that won the gate is being trained." : null;
  return [bar, el("div", { className: "legend" },
    named("", `champion ${champion.version}, ${percent(serves ? 1 - share : 1, 0)}`),
    Object.entries(champion.serving).map(([instance, instead]) =>
      named("drift", `${instance} serves ${instead.version}, as it cannot load the champion: ${instead.reason}`)),
    serves && named("canary", `${stage} ${candidate}, ${percent(share, 0)}`), said && el("span", {}, said),
    approval && el("span", {}, `waits for ${approval.approvals} approvals ${approval.step.replace("_", " ")}, has ${approval.approved_by.length}, until ${approval.expires.slice(0, 16)}`))];
}

const FORMS = { drift: ["▼", "drift"], rollback: ["↩", "drift"], dead_letter: ["✕", "drift"], line_failed: ["✕", "drift"],
  artifact: ["✕", "drift"], promotion: ["▲", "promotion"], rollout: ["◐", "canary"], gate: ["✓", "canary"],
  approval: ["✓", "canary"] };

function timeline(entries) {
  if (!entries.length) return empty("Nothing yet.");
  return el("ol", {}, entries.slice().reverse().map(entry => {
    const [form, colour] = FORMS[entry.kind] ?? ["·", ""];
    return el("li", {}, time(entry.time), el("span", { className: colour, "aria-hidden": "true" }, form),
      el("div", {}, entry.what, el("small", {}, entry.why)));
  }));
}

const MOST_LINES = 20;

/* One row for each line, the champion's first; `versions` are its versions that were served, where they are measured. */
function lines({ lines, metric, champion, candidate, versions }) {
  if (!lines.length) return empty("No line has predicted yet.");
  const rank = line => line.line === lineOf(champion) ? 0 : candidate && line.line === lineOf(candidate) ? 1 : 2;
  const sorted = lines.slice().reverse().sort((a, b) => rank(a) - rank(b)).slice(0, MOST_LINES);
  const bodies = sorted.map(line => {
    const role = ["champion", "candidate"][rank(line)], own = versions.filter(version => lineOf(version.name) === line.line);
    const name = own.length ? opener("lines", "line " + line.line, line.line) : line.line;
    const main = row([name, role && tag(role, role === "champion" ? "promotion" : "canary")], line.version,
      count(line.outcomes), count(line.served), score(metric, line.score), score(metric, line.rolling));
    return el("tbody", {}, main, opened.has("line " + line.line) && own.map(versionRow));
  });
  const versionRow = ({ name, outcomes, whole, rolling }) => {
    const cells = row(name, "", count(outcomes), count(outcomes), score(metric, whole[metric]), score(metric, rolling[metric]));
    cells.className = "sub";
    return cells;
  };
  const heads = ["line", "latest version", "predicted", "served", metricName(metric), "lately"];
  return table("versions by line", heads, ...bodies);
}
