"""Every acknowledged id has one prediction and the outcomes that its labels and feedback make; all say one thing."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime

from tests.chaos.findings import Findings
from tests.chaos.journal import Asked, Journal, Word
from tests.chaos.topics import Log, Record
from tests.chaos.truth import expected, told

EVENTS, OBSERVED = "ingest.event_received.v1", "serving.observation_received.v1"
MADE, LABELS, OUTCOMES = "serving.prediction_made.v1", "ingest.label_received.v1", "feature.outcome_observed.v1"
MAY_DIFFER: dict[str, tuple[str, ...]] = {
    EVENTS: ("received",),  # the application sent it again, and the door took it again: the first one counts
    LABELS: ("received",),
    MADE: ("latency_ms",),
}
CARRIED = ("entity", "features", "prediction", "probabilities", "version", "role", "propensity", "shadows")
"""What an outcome repeats of its prediction."""


def check_ids(log: Log, journal: Journal, loop: str, findings: Findings) -> None:
    """The claims about single observations."""
    made = log.first(MADE, loop, "subject")
    seen = {**log.first(EVENTS, loop), **log.first(OBSERVED, loop)}
    outcomes: dict[str, list[Record]] = defaultdict(list)
    for record in log.of(OUTCOMES, loop):
        outcomes[record.event["subject"]].append(record)
    for asked in journal.of(loop):
        _one_prediction(asked, seen.get(asked.id), made.get(asked.id), findings)
    _outcomes(log, journal, loop, made, outcomes, findings)
    known = {a.id for a in journal.of(loop)}
    for name, ids in (("observation", seen), ("prediction", made), ("outcome", outcomes)):
        findings.expect("nothing comes from nowhere", ids.keys() <= known, f"{name}s {sorted(ids.keys() - known)[:9]}")


def check_duplicates(log: Log, findings: Findings) -> None:
    """A record sent twice says the same both times."""
    for topic, records in log.records.items():
        said: dict[tuple[str, str], str] = {}
        for record in records:
            if not record.event.get("id"):
                continue
            words = _words(topic, record)
            before = said.setdefault((record.event.get("loop", ""), record.event["id"]), words)
            findings.expect(
                "a record sent twice says the same",
                before == words,
                lambda r=record, b=before, w=words, t=topic: f"{t} {r.event['loop']} {r.event['id']}: {_differ(b, w)}",
            )


def _words(topic: str, record: Record) -> str:
    data = record.event["data"]
    ignored = MAY_DIFFER.get(topic, ())
    if isinstance(data, dict):
        data = {k: v for k, v in data.items() if k not in ignored}
    return json.dumps([record.event.get("subject"), data], sort_keys=True)


def _differ(a: str, b: str) -> str:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
    return f"...{a[max(0, at - 60) : at + 80]} <> ...{b[max(0, at - 60) : at + 80]}"


def _one_prediction(asked: Asked, seen: Record | None, made: Record | None, findings: Findings) -> None:
    name = f"{asked.loop} {asked.id} ({asked.door}, {asked.entity})"
    if not asked.acknowledged:
        return
    findings.expect("what was acknowledged is on the log", seen is not None, name)
    findings.expect("an acknowledged id has a prediction", made is not None, name)
    if seen:
        there = (seen.data["entity"], seen.data["fields"])
        findings.expect("the log has what was sent", there == (asked.entity, asked.fields), f"{name}: {there}")
    if made and asked.answer:
        told = {k: asked.answer.get(k) for k in ("prediction", "version", "role")}
        logged = {k: made.data.get(k) for k in told}
        findings.expect("an answer is what the log says", told == logged, f"{name}: {told}, logged {logged}")


def _outcomes(
    log: Log,
    journal: Journal,
    loop: str,
    made: dict[str, Record],
    outcomes: dict[str, list[Record]],
    findings: Findings,
) -> None:
    words: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in log.of(LABELS, loop):
        words[record.event["subject"]].setdefault(record.event["id"], record)
    for asked in journal.of(loop):
        name, prediction = f"{loop} {asked.id}", made.get(asked.id)
        heard = list(words[asked.id].values())
        missing = [w.body for w in asked.words if w.acknowledged and not any(_is(w, h) for h in heard)]
        findings.expect("an acknowledged word is on the log", not missing, f"{name}: {missing}")
        keyed = all("key" in w.body for w in asked.words)
        once = not keyed or len(heard) <= len(asked.words)
        findings.expect("a word with a key is one event", once, f"{name}: {len(heard)} of {len(asked.words)}")
        wanted = expected(prediction, heard) if prediction else []
        got = sorted({told(r) for r in outcomes.get(asked.id, [])})
        claim = "outcomes say what labels and feedback make of a prediction"
        findings.expect(claim, got == wanted, f"{name}: {got}, expected {wanted}")
        for record in outcomes.get(asked.id, []) if prediction else []:
            assert prediction is not None
            differ = [k for k in CARRIED if record.data.get(k) != prediction.data.get(k)]
            findings.expect("an outcome carries its prediction", not differ, f"{name}: {differ}")


def _is(word: Word, record: Record) -> bool:
    """Whether this is what the application sent, with the time it gave."""
    body, data = word.body, record.data
    dated = "time" not in body or datetime.fromisoformat(body["time"]) == datetime.fromisoformat(record.event["time"])
    said = all(data.get(k) == body.get(k) for k in ("label", "correct", "source"))
    return said and dated and data["kind"] == word.kind
