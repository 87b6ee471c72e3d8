
/* Asks monitoring for the loop that the address names, and draws what has changed. */

const FULL_EVERY_MS = 10_000;
let loops = [], last = { status: "", at: 0 }, asker = { may: [], at: -Infinity };

const mayDo = (action, loop) => (loops.find(one => one.loop === loop) ?? asker).may.includes(action);

function chosen() {
  const named = loops.find(loop => "#" + encodeURIComponent(loop.loop) === location.hash || "#" + loop.loop === location.hash);
  return named ?? loops[0];
}

function loopLinks({ names, current }) {
  return names.map(name => el("a", { href: "#" + encodeURIComponent(name), "data-key": "loop " + name,
    ...(name === current ? { "aria-current": "page" } : {}) }, name));
}

/* Sections that are there where the loop is watched so, and the reader may. `watch` is what the spec turns on, by `on`;
   `needs` is what the reader must be allowed, about `of` where that is another loop than the one that is shown. */
const SECTIONS = [
  { id: "quality", title: "Quality", watch: "quality", on: "monitor: {quality: true}", path: "quality", build: quality },
  { id: "slices", title: "Slices", watch: "slices", on: "monitor: {slices: [FIELD]}", path: "quality", build: slices },
  { id: "features", title: "Features", watch: "drift", on: "monitor: {drift: all}", path: "features", build: features },
  { id: "expectations", title: "Expectations", watch: "expectations", on: "expect: [{field: FIELD, between: [LOW, HIGH]}]",
    path: "features", build: expectations },
  { id: "fairness", title: "Fairness", watch: "fairness", on: "monitor: {fairness: [FIELD]}", path: "fairness", build: fairness },
  { id: "objectives", title: "Objectives", watch: "objectives", on: "monitor: {objectives: {prediction: {within: 1s}}}", path: "objectives",
    build: objectives },
  { id: "predictions", title: "Predictions", path: "predictions?limit=25", build: predictions,
    isEmpty: answer => !answer.length, key: "prediction ", needs: "predictions.read" },
  { id: "importance", title: "Importance", path: "importance", build: importance,
    isEmpty: answer => !answer.versions.length },
  { id: "letters", title: "Dead letters", path: "v1/dead-letters?limit=50&loop={loop}", build: letters("letters-body"),
    isEmpty: answer => !answer.dead_letters.length, key: "repair ", needs: "letters.read" },
  { id: "loopless", title: "Dead letters that name no loop", path: "v1/dead-letters?limit=50&loop=", build: letters("loopless-body"),
    isEmpty: answer => !answer.dead_letters.length, key: "repair ", needs: "letters.read", of: "" },
];

function addSections() {
  for (const { id, title } of SECTIONS) {
    byId("content").append(el("section", { id, hidden: true, "aria-labelledby": id + "-title" },
      el("h2", { id: id + "-title", tabIndex: -1 }, title), el("div", { id: id + "-body" })));
  }
  byId("content").append(el("p", { id: "off", className: "note" }));
}

/* The status says whether anything was counted since: only then, and every ten seconds, the rest is asked for. */
async function ask(loop) {
  const name = encodeURIComponent(loop.loop);
  const address = path => path.startsWith("v1/") ? path.replace("{loop}", name) : `v1/loops/${name}/${path}`;
  const status = await get(address("status"));
  const sign = JSON.stringify([loop, status, document.documentElement.clientWidth]);
  if (sign === last.status && performance.now() - last.at < FULL_EVERY_MS) return;
  const sections = SECTIONS.filter(({ watch, needs, of }) => (!watch || loop.watched.includes(watch)) && (!needs || mayDo(needs, of ?? loop.loop)));
  const failed = error => ({ failure: error.message }), parts = new Set(sections.map(section => section.path));
  const asked = [...["series", "timeline?limit=60", "drifts", "evaluation", "alerts?state=open"].map(async path => [path, await get(address(path))]),
    ...[...parts].map(async path => [path, await get(address(path)).catch(failed)])];
  const answers = Object.fromEntries(await Promise.all(asked));
  if (chosen()?.loop !== loop.loop) return;
  last = { status: sign, at: performance.now() };
  showLoop(loop, status, answers);
  for (const section of SECTIONS) showSection(section, sections.includes(section) ? answers[section.path] : null);
  showAround(loop);
}

function showLoop(loop, status, answers) {
  const regression = loop.task === "regression", metric = status.metric.name, open = answers["alerts?state=open"];
  byId("scores-title").textContent = sentence(`${metricName(metric)} over the last 500 outcomes`);
  byId("alerts").hidden = !open.length;
  draw("alerts-body", open, alerts);
  draw("figures", { s: status, regression }, figures);
  draw("chart", { points: answers.series, drifts: answers.drifts, metric }, chart);
  draw("shares", status, shares);
  byId("candidate").hidden = !status.rollout.candidate;
  if (status.rollout.candidate) draw("candidate-body", { loop: loop.loop, rollout: status.rollout, asker: { ...asker, at: 0 }, may: loop.may }, candidate);
  draw("timeline", answers["timeline?limit=60"], timeline);
  draw("lines", { ...answers.evaluation, metric: answers.evaluation.line_metric, champion: status.champion.version,
    candidate: status.rollout.candidate, versions: answers.quality?.groups?.filter(group => group.by === "version") ?? [] }, lines);
}

/* A list of the latest stands still while one of its rows is open or repaired, so that this one does not leave it. */
function showSection({ id, build, isEmpty, key }, answer) {
  const failure = answer?.failure;
  byId(id).hidden = answer == null || (!failure && isEmpty?.(answer) === true);
  const isHeld = key && [...opened].some(one => one.startsWith(key)) && drawn.has(id + "-body");
  if (!byId(id).hidden && !isHeld) draw(id + "-body", answer, failure ? () => empty(failure) : build);
}

/* Ways to the sections that are there, and how those are turned on that are not. */
function showAround(loop) {
  const there = [...document.querySelectorAll("section h2")].filter(title => !title.closest("section").hidden);
  draw("jumps", there.map(title => [title.id, title.dataset.short ?? title.textContent]), titles => titles.map(([id, text]) => el("button",
    { type: "button", "data-key": "to " + id, onclick: () => { byId(id).focus(); byId(id).scrollIntoView() } }, text)));
  byId("jumps").hidden = false;
  const off = SECTIONS.filter(section => section.watch && !loop.watched.includes(section.watch));
  byId("off").textContent = off.length ? "Not watched in this loop; its file turns it on: "
    + off.map(section => `${section.title.toLowerCase()} (${section.on})`).join(", ") + "." : "";
}

/* Who reads this page, and the way out where they have signed in. */
async function askWho() {
  if (performance.now() - asker.at < FULL_EVERY_MS) return;
  asker = { ...await get("v1/session"), at: performance.now() };
  draw("who", asker.signed_in ? asker.subject : null, subject => subject && [el("span", {}, subject),
    el("button", { type: "button", className: "action", "data-key": "sign out", onclick: signOut }, "Sign out")]);
}

/* What is being typed is not left: whoever signs in in another tab can go on with it. */
function leave() {
  const isTyping = [...opened].some(key => key.startsWith("repair ")) || verdict.reason !== "";
  if (!isTyping) return location.replace("sign-in" + location.hash);
  byId("state").replaceChildren(el("a", { href: "sign-in", target: "_blank", rel: "noopener" }, "signed out: sign in in another tab"));
}

async function tick() {
  try {
    await askWho();
    ({ loops } = await get("v1/loops"));
    const loop = chosen();
    draw("loops", { names: loops.map(loop => loop.loop), current: loop?.loop }, loopLinks);
    byId("content").hidden = !loop;
    if (loop) await ask(loop);
    byId("state").textContent = loop ? `revision ${loop.revision}, ${new Date().toLocaleTimeString("en-GB")}`
      : "no loop yet: everloop apply -f loop.yaml";
    document.body.dataset.complete = "";
  } catch (error) {
    if (error instanceof SignedOut) leave();
    else byId("state").textContent = (error instanceof Refused ? "" : "monitoring does not answer: ") + error.message;
  }
}

addSections();
addEventListener("hashchange", () => {
  last.status = "";
  opened.clear();
  clearVerdict();
  tick();
});
(async function run() {
  await tick();
  setTimeout(run, document.hidden ? 5000 : 1000);
})();
