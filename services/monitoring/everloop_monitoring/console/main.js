
/* Asks monitoring for the loop that the address names, and draws what has changed. */

const FULL_EVERY_MS = 10_000;
let loops = [], last = { status: "", at: 0 };

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} answers ${answer.status}`);
  return answer.json();
}

function chosen() {
  return loops.find(loop => loop.loop === decodeURIComponent(location.hash.slice(1))) ?? loops[0];
}

function loopLinks({ names, current }) {
  return names.map(name => el("a", { href: "#" + encodeURIComponent(name), "data-key": "loop " + name,
    ...(name === current ? { "aria-current": "page" } : {}) }, name));
}

/* The status says whether anything was counted since: only then, and every ten seconds, the rest is asked for. */
async function ask(loop) {
  const base = `v1/loops/${encodeURIComponent(loop.loop)}`, status = await get(`${base}/status`);
  const sign = JSON.stringify([loop, status, document.documentElement.clientWidth]);
  if (sign === last.status && performance.now() - last.at < FULL_EVERY_MS) return;
  const [points, entries, drifts, evaluation] = await Promise.all(
    ["series", "timeline?limit=60", "drifts", "evaluation"].map(path => get(`${base}/${path}`)));
  if (chosen()?.loop !== loop.loop) return;
  last = { status: sign, at: performance.now() };
  show(loop, { status, points, entries, drifts, evaluation });
}

function show(loop, { status, points, entries, drifts, evaluation }) {
  const regression = loop.task === "regression", metric = status.metric.name;
  byId("scores-title").textContent = `${metricName(metric)} over the last 500 outcomes`;
  draw("figures", { s: status, regression }, figures);
  draw("chart", { points, drifts, metric }, chart);
  draw("shares", status, shares);
  draw("timeline", entries, timeline);
  draw("lines", { lines: evaluation.lines, metric: evaluation.line_metric, champion: status.champion.version,
    candidate: status.rollout.candidate, versions: [] }, lines);
}

async function tick() {
  try {
    ({ loops } = await get("v1/loops"));
    const loop = chosen();
    draw("loops", { names: loops.map(loop => loop.loop), current: loop?.loop }, loopLinks);
    byId("content").hidden = !loop;
    if (loop) await ask(loop);
    byId("state").textContent = loop ? `revision ${loop.revision}, ${new Date().toLocaleTimeString("en-GB")}`
      : "no loop yet: everloop apply -f loop.yaml";
    document.body.dataset.complete = "";
  } catch (error) {
    byId("state").textContent = "monitoring does not answer: " + error.message;
  }
}

addEventListener("hashchange", () => { last.status = ""; tick() });
(async function run() {
  await tick();
  setTimeout(run, document.hidden ? 5000 : 1000);
})();
