
/* Records that services could not process: why, and what they say. A record is asked for when it is opened. */

const records = new Map(), MOST_RECORDS = 100;

async function openLetter(body, id) {
  if (records.size >= MOST_RECORDS) records.delete(records.keys().next().value);
  try {
    records.set(id, await get(`v1/dead-letters/${encodeURIComponent(id)}`));
  } catch (error) {
    records.set(id, { failure: error.message });
  }
  redraw(body);
}

const letters = body => ({ dead_letters }) => {
  const bodies = dead_letters.map(letter => {
    const key = "letter " + letter.id, main = row(opener(body, key, time(letter.time), () => openLetter(body, letter.id)),
      words(letter.service), words(letter.error, el("small", {}, letter.reason)),
      words(letter.sent.length ? "✓ sent again" : letter.refused ? "cannot go again" : NONE));
    return el("tbody", {}, main, opened.has(key) && el("tr", {}, el("td", { colSpan: 4, className: "words" }, shown(letter))));
  });
  const heads = ["time", ...["service", "reason", "since then"].map(text => ({ text, words: true }))];
  return [table("dead letters", heads, ...bodies), note("everloop letters shows, repairs and sends them again.")];
};

function shown(letter) {
  const found = records.get(letter.id);
  const place = note(`${letter.id}: ${letter.topic}, ${letter.offset < 0 ? "refused by HTTP" : `partition ${letter.partition}, offset ${count(letter.offset)}`}, ${count(letter.size)} bytes`);
  if (!found) return [place, empty("reading")];
  if (found.failure) return [place, empty(found.failure)];
  return [place, found.text == null ? empty("The letter does not hold its record.")
    : el("pre", { className: "scroll", "data-key": "record " + letter.id, role: "region", "aria-label": "record" }, found.text),
  found.truncated && note("The rest is in the file: everloop letters show."), letter.refused && note(letter.refused)];
}
