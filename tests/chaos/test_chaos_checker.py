"""The checker finds what is planted: a proof that finds nothing is worth what it would have found."""

from __future__ import annotations

import json
from datetime import datetime
from hashlib import sha256
from typing import Any

import pytest
import yaml
from tests.chaos.check_decisions import check_dead_letters, check_decisions, equal_totals, recount
from tests.chaos.check_features import check_features
from tests.chaos.check_ids import check_duplicates, check_ids
from tests.chaos.check_learning import check_evaluations, check_learning
from tests.chaos.faults import schedule
from tests.chaos.findings import Findings
from tests.chaos.journal import Asked, Journal, Word
from tests.chaos.topics import Log, Record

from everloop_features import compile_features
from everloop_schemas.loop import LoopSpec

SPEC = LoopSpec.model_validate(
    yaml.safe_load("""
loop: l
task: binary
schema: {x: {type: number}}
features: [{fields: all}, {name: mean, mean: x, over: 3 events}]
models: [{preset: logistic}]
""")
)
TIME = "2026-01-01T00:00:00+00:00"


def put(log: Log, topic: str, id: str, data: dict[str, Any], subject: str = "", **more: Any) -> None:
    event = {"id": id, "subject": subject or id, "loop": "l", "time": TIME, "type": topic, "data": data, **more}
    records = log.records[topic]
    records.append(Record(0, len(records), b"", json.dumps(event).encode(), event))


def change(log: Log, topic: str, at: int, **values: Any) -> None:
    log.records[topic][at].event["data"].update(values)


@pytest.fixture
def told() -> tuple[Log, Journal]:
    """Four observations of one entity, alternately by stream and REST, each predicted and labelled true."""
    log, journal, plan = Log(), Journal(), compile_features(SPEC)
    state: dict[str, Any] = {}
    for i in range(4):
        name, door, fields = f"p{i}", "stream" if i % 2 == 0 else "rest", {"x": i / 7}
        state, features = plan.apply(state, fields, datetime.fromisoformat(TIME))
        seen = {"entity": "e", "fields": fields, "received": TIME}
        said = {"entity": "e", "features": features, "prediction": False, "version": "0", "role": "baseline"}
        said |= {"propensity": 1.0, "shadows": [], "door": door, "observed": TIME}
        if door == "stream":
            put(log, "ingest.event_received.v1", name, seen, "e")
            vector = {"prediction_id": name, "entity": "e", "features": features}
            put(log, "feature.features_computed.v1", f"v{i}", vector, "e")
        else:
            put(log, "serving.observation_received.v1", name, seen, "e")
        put(log, "serving.prediction_made.v1", f"m{i}", said, name)
        put(log, "ingest.label_received.v1", f"w{i}", {"kind": "label", "label": True}, name)
        outcome = {**said, "prediction_id": name, "label": True, "correction": 0, "kind": "label"}
        put(log, "feature.outcome_observed.v1", f"o{i}", outcome, name)
        word = Word("label", {"id": name, "label": True}, acknowledged=True)
        answer = {"prediction": False, "version": "0", "role": "baseline"} if door == "rest" else None
        journal.add(Asked("l", name, door, "e", fields, True, answer, [word]))  # type: ignore[arg-type]
    losses = {"0": [1.0, 0.0, 0.0, 0.0]}
    put(log, "training.challenge_updated.v1", "c", {"offsets": [0, 1, 2, 3], "losses": losses})
    put(log, "monitoring.evaluation_updated.v1", "e", {"offsets": [0, 1, 2, 3], "losses": {"0": [1.0] * 4}})
    return log, journal


def found(log: Log, journal: Journal) -> set[str]:
    findings = Findings()
    check_duplicates(log, findings)
    check_ids(log, journal, "l", findings)
    check_features(log, "l", SPEC, findings)
    check_learning(log, "l", SPEC, findings)
    check_evaluations(log, "l", findings)
    return set(findings.by_claim())


def test_a_log_that_keeps_its_promises_has_no_findings(told: tuple[Log, Journal]) -> None:
    assert found(*told) == set()


PLANTED: list[tuple[str, str, int, dict[str, Any]]] = [
    (
        "vectors equal a replay of the inputs",
        "feature.features_computed.v1",
        1,
        {"features": {"x": 2 / 7, "mean": 0.1}},
    ),
    ("REST features equal a replay", "serving.prediction_made.v1", 3, {"features": {"x": 3 / 7, "mean": 0.9}}),
    ("an answer is what the log says", "serving.prediction_made.v1", 1, {"prediction": True}),
    ("an outcome carries its prediction", "feature.outcome_observed.v1", 2, {"version": "logistic-0@9"}),
    (
        "a labelled prediction has one outcome, with the last label",
        "feature.outcome_observed.v1",
        2,
        {"label": False},
    ),
    ("losses equal a line learned again", "training.challenge_updated.v1", 0, {"losses": {"0": [1.0, 1.0, 0.0, 0.0]}}),
    ("every outcome is judged", "training.challenge_updated.v1", 0, {"offsets": [0, 1, 2, 9]}),
    ("every outcome is evaluated", "monitoring.evaluation_updated.v1", 0, {"offsets": [0, 1, 2, 9]}),
    ("the log has what was sent", "ingest.event_received.v1", 0, {"entity": "other"}),
]


@pytest.mark.parametrize(("claim", "topic", "at", "values"), PLANTED, ids=[p[0] for p in PLANTED])
def test_a_record_that_says_something_else_is_found(
    told: tuple[Log, Journal], claim: str, topic: str, at: int, values: dict[str, Any]
) -> None:
    change(told[0], topic, at, **values)

    assert claim in found(*told)


LOST = {
    "what was acknowledged is on the log": "ingest.event_received.v1",
    "an acknowledged id has a prediction": "serving.prediction_made.v1",
    "an acknowledged word is on the log": "ingest.label_received.v1",
    "a labelled prediction has one outcome, with the last label": "feature.outcome_observed.v1",
    "every observation has a vector": "feature.features_computed.v1",
}


@pytest.mark.parametrize(("claim", "topic"), LOST.items(), ids=list(LOST))
def test_a_record_that_was_lost_is_found(told: tuple[Log, Journal], claim: str, topic: str) -> None:
    told[0].records[topic].pop(0)

    assert claim in found(*told)


def test_a_second_truth_about_one_prediction_is_found(told: tuple[Log, Journal]) -> None:
    log, journal = told
    put(
        log,
        "serving.prediction_made.v1",
        "m0",
        {**log.records["serving.prediction_made.v1"][0].data, "version": "x"},
        "p0",
    )

    assert "a record sent twice says the same" in found(log, journal)


def test_a_record_sent_twice_with_the_same_words_is_none(told: tuple[Log, Journal]) -> None:
    log, journal = told
    put(log, "serving.prediction_made.v1", "m0", dict(log.records["serving.prediction_made.v1"][0].data), "p0")

    assert found(log, journal) == set()


def test_a_prediction_nobody_asked_for_is_found(told: tuple[Log, Journal]) -> None:
    log, journal = told
    put(log, "serving.prediction_made.v1", "m9", dict(log.records["serving.prediction_made.v1"][0].data), "p9")

    assert "nothing comes from nowhere" in found(log, journal)


def decisions(*sequences: int, forged: bool = False) -> set[str]:
    log, findings = Log(), Findings()
    for sequence in sequences:
        before = log.records["registry.decided.v1"]
        prevhash = sha256(before[-1].raw).hexdigest() if before and not forged else "0"
        put(log, "registry.decided.v1", f"d{sequence}", {}, sequence=sequence, prevhash=prevhash)
    put(log, "registry.loop_state.v1", "s", {"sequence": 2})
    check_decisions(log, "l", findings)
    return set(findings.by_claim())


def test_a_gap_or_a_forged_link_in_the_decisions_is_found() -> None:
    assert decisions(0, 1, 2) == set()
    assert "no decision is missing" in decisions(0, 2)
    assert "decisions are chained" in decisions(0, 1, 2, forged=True)
    assert "the loop's state is the last decision's" in decisions(0, 1)


def test_something_good_in_a_dead_letter_is_found() -> None:
    log, findings = Log(), Findings()
    place = {"topic": "ingest.event_received.v1", "partition": 0, "offset": 0}
    put(log, "ingest.event_received.v1", "p0", {})
    put(log, "feature.dead_letter.v1", "d", {**place, "error": "E", "reason": "r", "value": ""})

    check_dead_letters(log, set(), findings)

    assert set(findings.by_claim()) == {"a dead letter has its bytes and a reason", "nothing good is a dead letter"}


def test_totals_that_differ_are_found(told: tuple[Log, Journal]) -> None:
    counted = recount(told[0], "l")
    status = {**counted, "accuracy": {"served": counted["served"]}}

    assert equal_totals(counted, status) == {}
    assert equal_totals(counted, {**status, "outcomes": 5}) == {"outcomes": (4, 5)}


def test_the_same_seed_is_the_same_schedule() -> None:
    first, again, other = schedule(7, 2.0), schedule(7, 2.0), schedule(8, 2.0)

    assert [next(first) for _ in range(50)] == [next(again) for _ in range(50)]
    assert next(other) != next(schedule(7, 2.0))
