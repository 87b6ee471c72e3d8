
/* Open alerts, and the loop's objectives. */

const SEVERITIES = { critical: "▲ critical", warning: "◆ warning", info: "● info" };

function alerts(open) {
  return open.toReversed().map(alert => {
    const { severity, silenced, count: times } = alert.data;
    const rows = [["since", time(alert.since)], ["evidence", alert.evidence.join("; ")], ["likely cause", alert.cause],
      ["Everloop", alert.doing], ["you", alert.runbook]].filter(([, value]) => value);
    const tags = [tag(SEVERITIES[severity] ?? severity), alert.state === "pending" && tag("pending"), silenced && tag("silenced"),
      times > 1 && tag(`${count(times)} times`)];
    return el("article", { className: "alert " + severity }, el("h3", {}, alert.what, tags),
      el("dl", {}, rows.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
  });
}

/* A burn rate above 1 uses the error budget up before its period ends. */
function objectives(list) {
  const burn = v => v == null ? NONE : [v > 1 && el("span", { className: "drift" }, "▲ "), number(v)];
  const rows = list.map(one => row(one.objective.replaceAll("_", " "), `${percent(one.share, 2)} within ${duration(one.within_s)}`,
    one.total ? percent(one.good / one.total, 2) : NONE, count(one.total), ...["1h", "6h", "3d"].map(span => burn(one.burn[span])),
    percent(one.budget_left), ...Object.keys(SPANS).map(span => words(held(one.history[span], span, one.share)))));
  const heads = ["objective", "asked", "held", "of", "burn, 1 h", "6 h", "3 d", "budget left",
    ...["held over 6 h", "over 30 d"].map(text => ({ text, words: true }))];
  return table("objectives", heads, el("tbody", {}, rows));
}

/* Seconds of a span, and of each of its bars. */
const SPANS = { "6h": [21_600, 300], "30d": [2_592_000, 21_600] };

/* The share of cases in time, a bar for each part of a span; what is asked is the dashed line. The right end is now. */
function held(cases, span, share) {
  if (!cases.length) return NONE;
  const [length, step] = SPANS[span], width = 146, height = 30, shares = cases.map(one => one.good / one.total);
  const end = Math.max(cases.at(-1).start_s + step, Date.now() / 1000), lowest = Math.min(...shares), floor = Math.min(lowest, 1 - 2 * (1 - share));
  const x = at => width * (1 - (end - at) / (length + step)), y = v => 2 + (height - 4) * (1 - (v - floor) / (1 - floor || 1));
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `share in time over ${span}: lowest ${percent(lowest, 2)}, last ${percent(shares.at(-1), 2)}, asked ${percent(share, 2)}` });
  cases.forEach((one, i) => root.append(svg("rect", { x: x(one.start_s), width: Math.max(1, width * step / (length + step) - .5), y: y(shares[i]),
    height: height - y(shares[i]), fill: shares[i] < share ? "var(--drift)" : "var(--served)" })));
  root.append(svg("line", { x1: 0, x2: width, y1: y(share), y2: y(share), stroke: "var(--ink)", "stroke-dasharray": "3 2" }));
  return root;
}
