
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
    percent(one.budget_left)));
  const heads = ["objective", "asked", "held", "of", "burn, 1 h", "6 h", "3 d", "budget left"];
  return table("objectives", heads, el("tbody", {}, rows));
}
