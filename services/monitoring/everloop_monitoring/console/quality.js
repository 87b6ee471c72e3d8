
/* Quality by metric, beside the baselines; the labels it rests on; slices; fairness. */

const interval = (name, range) => range ? `${score(name, range[0])} to ${score(name, range[1])}` : NONE;

const groupName = group => group.by === "served" ? "all that was served" : `${group.by} ${group.name}`;
let chosenGroup = "all that was served";

function quality(answer) {
  const groups = answer.groups.filter(group => group.by !== "slice");
  const group = groups.find(group => groupName(group) === chosenGroup) ?? groups[0];
  const middle = answer.task === "regression" ? "mean" : "majority", { baselines } = answer;
  const rows = Object.keys(group.whole).map(name => row(
    [metricName(name), name === answer.metric && tag("the loop's", "promotion")],
    score(name, group.whole[name]), score(name, group.rolling[name]), interval(name, group.interval?.[name]),
    score(name, baselines.no_change?.[name]), score(name, baselines[middle]?.[name])));
  const heads = ["metric", "all", `last ${count(answer.window)}`, "interval", "no change", middle];
  return [groupChoice(groups, group),
    el("div", { className: "two wide" },
      el("div", {}, table("quality by metric", heads, el("tbody", {}, rows))),
      el("div", { className: "pair" }, confusion(group.confusion), reliability(group.reliability))),
    labelNotes(answer)];
}

function groupChoice(groups, chosen) {
  const choose = event => { chosenGroup = event.target.value; redraw("quality-body") };
  return el("label", { className: "note choice" }, "of ", el("select", { "data-key": "group", onchange: choose },
    groups.map(group => el("option", { value: groupName(group), selected: group === chosen },
      `${groupName(group)} (${count(group.outcomes)})`))));
}

function confusion(found) {
  if (!found?.classes.length || found.classes.length > 12) return null;
  const most = Math.max(1, ...found.counts.flat());
  const cell = n => el("td", { style: `background: color-mix(in srgb, var(--served) ${Math.round(35 * n / most)}%, transparent)` }, count(n));
  const rows = found.classes.map((name, i) => el("tr", {}, el("th", { scope: "row" }, String(name)), found.counts[i].map(cell)));
  return el("div", {}, el("h3", {}, "Labels (rows) and predictions"),
    table("confusion matrix", ["label", ...found.classes.map(String)], el("tbody", {}, rows)));
}

function reliability(bins) {
  const filled = (bins ?? []).filter(bin => bin.n);
  if (filled.length < 2) return null;
  const side = 170, at = v => 6 + (side - 12) * v, most = Math.max(...filled.map(bin => bin.n));
  const root = svg("svg", { width: side, height: side, viewBox: `0 0 ${side} ${side}`, role: "img",
    "aria-label": "Reliability: " + filled.map(bin => `${number(bin.predicted)} predicted, ${number(bin.observed)} observed`).join("; ") },
  svg("rect", { x: 6, y: 6, width: side - 12, height: side - 12, fill: "none", stroke: "var(--line)" }),
  svg("line", { x1: at(0), y1: side - at(0), x2: at(1), y2: side - at(1), stroke: "var(--majority)", "stroke-dasharray": "4 3" }),
  svg("path", { d: filled.map((bin, i) => `${i ? "L" : "M"}${at(bin.predicted)} ${side - at(bin.observed)}`).join(""),
    fill: "none", stroke: "var(--served)", "stroke-width": 1.5 }));
  for (const bin of filled) {
    root.append(svg("circle", { cx: at(bin.predicted), cy: side - at(bin.observed), r: 2 + 4 * Math.sqrt(bin.n / most), fill: "var(--served)" }));
  }
  return el("div", {}, el("h3", {}, "Predicted and observed share"), root);
}

function labelNotes({ labels, estimated }) {
  const { p50, p90, p99 } = labels.delay_s;
  const delay = p50 == null ? "" : `; half within ${duration(p50)}, 90 % within ${duration(p90)}, 99 % within ${duration(p99)}`;
  const said = estimated && `Estimated before labels come: ${metricName(estimated.metric)} ${score(estimated.metric, estimated.value)}`
    + (estimated.error == null ? "" : `, ${score(estimated.metric, estimated.error)} off where labels are known`)
    + `, over ${count(estimated.predictions)} predictions.`;
  return [note(`${percent(labels.coverage)} of ${count(labels.predictions)} predictions have labels${delay}; `
    + `${count(labels.corrected)} corrected.`), said && note(said)];
}

/* One table for each field that divides the outcomes: the loop's metric of each group, with its interval. */
function slices(answer) {
  const all = answer.groups.find(group => group.by === "served"), name = answer.metric;
  const fields = Map.groupBy(answer.groups.filter(group => group.by === "slice"), group => group.slice);
  return [...fields].map(([field, groups]) => {
    const ends = groups.flatMap(group => group.interval?.[name] ?? [group.whole[name]]).filter(v => v != null);
    const from = Math.min(...ends, all.whole[name] ?? Infinity), to = Math.max(...ends, all.whole[name] ?? -Infinity);
    const rows = groups.map(group => {
      const [low, high] = group.interval?.[name] ?? [];
      return row(group.name, count(group.outcomes), score(name, group.whole[name]), score(name, group.rolling[name]),
        interval(name, group.interval?.[name]), words(whisker({ low, high, value: group.whole[name] }, from, to, all.whole[name])));
    });
    const heads = [field, "outcomes", metricName(name), `last ${count(answer.window)}`, "interval", { text: "", words: true }];
    return table("slices by " + field, heads, el("tbody", {}, rows));
  });
}
