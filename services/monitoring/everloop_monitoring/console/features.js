
/* Each feature beside what the champion learned from: how far it has moved, since when, and what is wrong with it. */

const DETECTORS = { jensen_shannon: "Jensen-Shannon", wasserstein: "Wasserstein", population_stability: "population stability", adwin: "ADWIN" };

/* Two histograms over the same bins: before as an outline, now filled; missing and other values have bins of their own. */
function histograms(before, after) {
  const shares = ({ counts, missing, other }) => {
    const all = [...counts, other, missing], sum = all.reduce((a, b) => a + b, 0);
    return sum ? all.map(n => n / sum) : [];
  };
  const old = shares(before), now = shares(after);
  if (!old.length && !now.length) return NONE;
  const width = 120, height = 30, step = width / Math.max(old.length, now.length), most = Math.max(...old, ...now);
  const bar = (i, share, attributes) => svg("rect", { x: i * step + .5, width: Math.max(1, step - 1),
    y: height - height * share / most, height: height * share / most, ...attributes });
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  now.forEach((share, i) => root.append(bar(i, share, { fill: "var(--served)", "fill-opacity": .5 })));
  old.forEach((share, i) => root.append(bar(i, share, { fill: "none", stroke: "var(--ink)", "stroke-opacity": .7 })));
  return root;
}

function features(answer) {
  const sorted = answer.features.slice().sort((a, b) => b.drifted - a.drifted || (b.distance ?? 0) - (a.distance ?? 0));
  const rows = sorted.map(one => {
    const wrong = ["missing", "out_of_range", "unknown"].filter(name => one[name] > 0)
      .map(name => `${percent(one[name])} ${name.replaceAll("_", " ")}`);
    if (one.constant) wrong.push("constant");
    if (one.stale) wrong.push("stale");
    return row([one.name, one.kind !== "feature" && tag(one.kind), one.drifted && tag("▼ drift", "drift")],
      words(histograms(one.before, one.after)), number(one.distance), words(DETECTORS[one.detector] ?? one.detector), number(one.p_value),
      one.since ? el("td", {}, time(one.since)) : NONE, words(wrong.join(", ") || NONE));
  });
  const heads = ["feature", { text: "before (outline) and now", words: true }, "distance", { text: "by", words: true }, "p", "since", { text: "quality", words: true }];
  const where = answer.slices.length > 0 && note(["The drift is concentrated in ", answer.slices.map(name => tag(name, "drift"))]);
  const sealed = answer.personal.length > 0 && note(`Personal, not watched: ${answer.personal.join(", ")}.`);
  return [reference(answer), where, table("features", heads, el("tbody", {}, rows)), sealed, volume(answer)];
}

function reference({ reference, window }) {
  return note(reference ? `The last ${count(window)} predictions beside the ${count(reference.outcomes)} outcomes that ${reference.version} began with.`
    : "Compared once a champion has learned from enough outcomes.");
}

function volume({ volume, duplicates, late }) {
  const usual = volume?.usual == null ? "" : `, where ${number(volume.usual)} are usual`;
  return note((volume ? `${count(volume.predictions)} predictions in the hour from ${new Date(volume.hour).toLocaleTimeString("en-GB")}${usual}; ` : "")
    + `${count(duplicates)} came again, ${count(late)} were over a minute late.`);
}

/* What a loop's file expects of fields, and whether the latest observations meet it. */
function expectations({ expectations }) {
  const rows = expectations.map(one => row(one.field, words(one.what), percent(one.share, 2), percent(one.required, 2), count(one.n),
    words([one.holds ? "✓ holds" : el("span", { className: "drift" }, "✗ broken"), one.then === "dead_letter" && tag("refused by ingest")])));
  const heads = ["field", { text: "expected", words: true }, "share", "required", "of", { text: "", words: true }];
  return table("expectations", heads, el("tbody", {}, rows));
}
