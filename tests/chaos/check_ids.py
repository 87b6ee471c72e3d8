"""Every acknowledged id has one prediction, and the outcomes that follow from its labels and feedback."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime

from tests.chaos.expected_outcomes import expected_outcomes, summarise
from tests.chaos.findings import Findings
from tests.chaos.journal import Journal, SentLabel, SentObservation
from tests.chaos.topics import Log, Record

EVENTS, OBSERVED = "ingest.event_received.v1", "serving.observation_received.v1"
MADE, LABELS, OUTCOMES = "serving.prediction_made.v1", "ingest.label_received.v1", "feature.outcome_observed.v1"
MAY_DIFFER: dict[str, tuple[str, ...]] = {
    EVENTS: ("received",),  # the application sent a duplicate, which ingest accepted again: the first one counts
    LABELS: ("received",),
    MADE: ("latency_ms",),
}
CARRIED = ("entity", "features", "prediction", "probabilities", "version", "role", "propensity", "shadows")
"""The fields that an outcome has from its prediction."""


def check_ids(log: Log, journal: Journal, loop: str, findings: Findings) -> None:
    """The claims about single observations."""
    made = log.first(MADE, loop, "subject")
    seen = {**log.first(EVENTS, loop), **log.first(OBSERVED, loop)}
    outcomes: dict[str, list[Record]] = defaultdict(list)
    for record in log.of(OUTCOMES, loop):
        outcomes[record.event["subject"]].append(record)
    for observation in journal.of(loop):
        _check_prediction(observation, seen.get(observation.id), made.get(observation.id), findings)
    _check_outcomes(log, journal, loop, made, outcomes, findings)
    sent = {a.id for a in journal.of(loop)}
    for name, ids in (("observation", seen), ("prediction", made), ("outcome", outcomes)):
        findings.expect("every id on the log was sent", ids.keys() <= sent, f"{name}s {sorted(ids.keys() - sent)[:9]}")


def check_duplicates(log: Log, findings: Findings) -> None:
    """The duplicates of a record are equal."""
    for topic, records in log.records.items():
        first: dict[tuple[str, str], str] = {}
        for record in records:
            if not record.event.get("id"):
                continue
            content = _content(topic, record)
            before = first.setdefault((record.event.get("loop", ""), record.event["id"]), content)
            findings.expect(
                "duplicates of a record are equal",
                before == content,
                lambda r=record, b=before, c=content, t=topic: (
                    f"{t} {r.event['loop']} {r.event['id']}: {_differ(b, c)}"
                ),
            )


def _content(topic: str, record: Record) -> str:
    data = record.event["data"]
    ignored = MAY_DIFFER.get(topic, ())
    if isinstance(data, dict):
        data = {k: v for k, v in data.items() if k not in ignored}
    return json.dumps([record.event.get("subject"), data], sort_keys=True)


def _differ(a: str, b: str) -> str:
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
    return f"...{a[max(0, at - 60) : at + 80]} <> ...{b[max(0, at - 60) : at + 80]}"


def _check_prediction(
    observation: SentObservation, seen: Record | None, made: Record | None, findings: Findings
) -> None:
    name = f"{observation.loop} {observation.id} ({observation.via}, {observation.entity})"
    if not observation.acknowledged:
        return
    findings.expect("what was acknowledged is on the log", seen is not None, name)
    findings.expect("an acknowledged id has a prediction", made is not None, name)
    if seen:
        there, sent = (seen.data["entity"], seen.data["fields"]), (observation.entity, observation.fields)
        findings.expect("the log has what was sent", there == sent, f"{name}: {there}")
    if made and observation.answer:
        answered = {k: observation.answer.get(k) for k in ("prediction", "version", "role")}
        logged = {k: made.data.get(k) for k in answered}
        what = f"{name}: {answered}, logged {logged}"
        findings.expect("an answer equals the logged prediction", answered == logged, what)


def _check_outcomes(
    log: Log,
    journal: Journal,
    loop: str,
    made: dict[str, Record],
    outcomes: dict[str, list[Record]],
    findings: Findings,
) -> None:
    labels: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in log.of(LABELS, loop):
        labels[record.event["subject"]].setdefault(record.event["id"], record)
    for observation in journal.of(loop):
        name, prediction = f"{loop} {observation.id}", made.get(observation.id)
        logged = list(labels[observation.id].values())
        sent = observation.labels
        missing = [label.body for label in sent if label.acknowledged and not any(_is(label, r) for r in logged)]
        findings.expect("an acknowledged label is on the log", not missing, f"{name}: {missing}")
        keyed = all("key" in label.body for label in sent)
        once = not keyed or len(logged) <= len(sent)
        findings.expect("a label with a key is one event", once, f"{name}: {len(logged)} of {len(sent)}")
        wanted = expected_outcomes(prediction, logged) if prediction else []
        got = sorted({summarise(r) for r in outcomes.get(observation.id, [])})
        claim = "outcomes follow from predictions, labels and feedback"
        findings.expect(claim, got == wanted, f"{name}: {got}, expected {wanted}")
        for record in outcomes.get(observation.id, []) if prediction else []:
            assert prediction is not None
            differ = [k for k in CARRIED if record.data.get(k) != prediction.data.get(k)]
            findings.expect("an outcome carries its prediction", not differ, f"{name}: {differ}")


def _is(label: SentLabel, record: Record) -> bool:
    """Whether the record is this label or feedback, with the time that the application gave."""
    body, data = label.body, record.data
    dated = "time" not in body or datetime.fromisoformat(body["time"]) == datetime.fromisoformat(record.event["time"])
    same = all(data.get(k) == body.get(k) for k in ("label", "correct", "source"))
    return same and dated and data["kind"] == label.kind
