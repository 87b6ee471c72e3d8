
/* Records that services could not process: why, and what they say. Here they are repaired and sent again. */

const records = new Map(), MOST_RECORDS = 100, MOST_REPAIRED_BYTES = 200_000;
const letterPath = (letter, verb = "") => `v1/dead-letters/${encodeURIComponent(letter.id)}${verb}`;
const repairKey = letter => "repair " + letter.id;

/* What a letter's record is, read when the letter is opened; `draft` is its repair so far, `said` what became of it. */
async function openLetter(body, letter) {
  if (records.size >= MOST_RECORDS) records.delete(records.keys().next().value);
  try {
    records.set(letter.id, await get(letterPath(letter)));
  } catch (error) {
    records.set(letter.id, { failure: error.message });
  }
  redraw(body);
}

const letters = body => ({ dead_letters }) => {
  const bodies = dead_letters.map(letter => {
    const key = "letter " + letter.id, main = row(opener(body, key, time(letter.time), () => openLetter(body, letter)),
      words(letter.service), words(letter.error, el("small", {}, letter.reason)), words(letterState(letter)));
    return el("tbody", {}, main, opened.has(key) && el("tr", {}, el("td", { colSpan: 4, className: "words" }, shown(body, letter))));
  });
  const heads = ["time", ...["service", "reason", "state"].map(text => ({ text, words: true }))];
  return [table("dead letters", heads, ...bodies), note("everloop letters lists, repairs and sends them by the command line.")];
};

function letterState({ sent, refused }) {
  const last = sent.at(-1);
  if (last) return ["✓ sent ", time(last.time), last.repaired && tag("repaired")];
  return refused ? "✗ cannot go again" : "○ open";
}

function shown(body, letter) {
  const found = records.get(letter.id);
  const place = note(`${letter.id}: ${letter.topic}, ${letter.offset < 0 ? "refused by HTTP" : `partition ${letter.partition}, offset ${count(letter.offset)}`}, ${count(letter.size)} bytes`);
  if (!found) return [place, empty("reading")];
  if (found.failure) return [place, empty(found.failure)];
  return [place, found.text == null ? empty("The letter does not hold its record.")
    : el("pre", { className: "scroll", "data-key": "record " + letter.id, role: "region", "aria-label": "record" }, found.text),
  found.truncated && note("The rest is in the file: everloop letters repair ID --output FILE."),
  ...letter.sent.map(one => note("Sent ", time(one.time), ` ${one.repaired ? "repaired" : "as it was"}, as ${one.event} of ${one.loop}, by ${one.actor}.`)),
  ...sending(body, letter, found), found.isBusy && note("sending"), outcome(found.said)];
}

/* How a letter goes again: its buttons, or why there are none. */
function sending(body, letter, found) {
  if (letter.refused) return [note(letter.refused)];
  if (!mayDo("letters.send", letter.loop)) return [note("Sending it again takes the role operator for its loop.")];
  if (found.by_command) {
    return [note("Its record goes by ingest, whose address monitoring does not know (EVERLOOP_INGEST_URL). By the command line:"),
      el("pre", {}, `everloop letters send ${letter.id}\neverloop letters repair ${letter.id} --set PATH=VALUE`)];
  }
  const act = (name, text, onclick) => el("button", { type: "button", className: "action", "data-key": `${name} ${letter.id}`,
    "aria-disabled": String(found.isBusy === true), onclick: () => found.isBusy || onclick() }, text);
  if (!opened.has(repairKey(letter))) {
    return [el("p", { className: "actions" }, found.text != null && act("send", "Send as it was", () => sendLetter(body, letter, found)),
      act("start", "Repair", () => startRepair(body, letter, found)))];
  }
  const text = el("textarea", { "data-key": repairKey(letter), "aria-label": "the repaired record, in JSON", value: found.draft,
    spellcheck: false, rows: Math.min(24, found.draft.split("\n").length + 1), oninput: event => { found.draft = event.target.value } });
  return [text, el("p", { className: "actions" }, act("send", "Send repaired", () => sendLetter(body, letter, found)),
    act("stop", "Cancel", () => stopRepair(body, letter, found)))];
}

function outcome(said) {
  if (!said) return null;
  return el("div", { role: "alert", className: "said " + (said.failed ? "failed" : "done") },
    el("p", {}, said.failed ? "✗ " : "✓ ", said.text), said.errors?.length > 0 && el("dl", {},
      said.errors.map(({ field, error }) => [el("dt", {}, field), el("dd", {}, error)])));
}

async function startRepair(body, letter, found) {
  delete found.said;
  try {
    found.draft = found.text == null ? "" : await textOf(letter);
    opened.add(repairKey(letter));
  } catch (error) {
    found.said = { failed: true, text: error.message };
  }
  redraw(body);
  byKey(body, repairKey(letter))?.focus();
}

async function textOf(letter) {
  const byFile = `everloop letters repair ${letter.id} --output FILE`;
  if (letter.size > MOST_REPAIRED_BYTES) throw new Error(`The record is too large for this page; repair it in a file: ${byFile}`);
  const answer = await request(letterPath(letter, "/body"));
  if (!answer.ok) throw new Error(problemText(await answer.json().catch(() => null), answer.status));
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await answer.arrayBuffer());
  } catch {
    throw new Error(`The record is no UTF-8 text; write it anew in a file: ${byFile}`);
  }
}

function stopRepair(body, letter, found) {
  opened.delete(repairKey(letter));
  delete found.draft;
  redraw(body);
  byKey(body, "start " + letter.id)?.focus();
}

/* Sends what was repaired, where it is JSON, or the record as it was; and says what became of it. */
async function sendLetter(body, letter, found) {
  const isRepaired = opened.has(repairKey(letter));
  const wrong = isRepaired ? jsonError(found.draft) : null;
  found.said = wrong ? { failed: true, text: `Not sent: the repaired record is no JSON. ${wrong}` } : null;
  found.isBusy = !wrong;
  redraw(body);
  if (wrong) return;
  found.said = await post(letterPath(letter, "/send"), isRepaired ? { value: base64(found.draft) } : {},
    { done: sentAs, refused: "Not sent", unsure: "sent or not; to send it again is safe" });
  found.isBusy = false;
  if (!found.said.failed) opened.delete(repairKey(letter));
  redraw(body);
  last.status = "";
  await tick();
}

const sentAs = ({ sent, to, event }) => sent ? `Sent again: to ${to}, as ${event}.` : `Just this was sent before, as ${event}; nothing changes.`;
const byKey = (body, key) => [...byId(body).querySelectorAll("[data-key]")].find(node => node.dataset.key === key);
const base64 = text => btoa(Array.from(new TextEncoder().encode(text), byte => String.fromCharCode(byte)).join(""));

function jsonError(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error.message;
  }
}
