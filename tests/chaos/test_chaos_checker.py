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
from tests.chaos.truth import expected

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
        "outcomes say what labels and feedback make of a prediction",
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
    "outcomes say what labels and feedback make of a prediction": "feature.outcome_observed.v1",
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


JUDGED = "outcomes say what labels and feedback make of a prediction"
EARLIER, LATER = "2025-12-31T23:00:00+00:00", "2026-01-01T01:00:00+00:00"


def say(told: tuple[Log, Journal], id: str, kind: Any, arrived: str = LATER, time: str = "", **said: Any) -> None:
    """One more word on p3, as the application sent it and as the door put it on the log; without a time of its own."""
    log, journal = told
    put(log, "ingest.label_received.v1", id, {"kind": kind, "received": arrived, **said}, "p3", time=time or arrived)
    body = {"id": "p3", **said} | ({"time": time} if time else {})
    journal.asked["l", "p3"].words.append(Word(kind, body, acknowledged=True))


def answer(told: tuple[Log, Journal], correction: int, kind: str, label: bool, **more: Any) -> None:
    """One more outcome of p3."""
    before = told[0].records["feature.outcome_observed.v1"][3].data
    data = {**before, "correction": correction, "kind": kind, "label": label, **more}
    put(told[0], "feature.outcome_observed.v1", f"o3-{correction}", data, "p3")


def test_feedback_beside_a_label_leaves_the_label_and_one_that_replaced_it_is_found(
    told: tuple[Log, Journal],
) -> None:
    say(told, "f", "feedback", label=False, source="user")
    answer(told, 1, "feedback", True, source="user", disputed=True)
    assert found(*told) == set()

    change(told[0], "feature.outcome_observed.v1", 4, label=False, disputed=None)
    assert found(*told) == {JUDGED}


@pytest.mark.parametrize("wrong", [{"disputed": None}, {"source": "another"}, {"kind": "label"}], ids=str)
def test_feedback_beside_a_label_that_is_told_otherwise_is_found(
    told: tuple[Log, Journal], wrong: dict[str, Any]
) -> None:
    say(told, "f", "feedback", correct=True, source="user")
    answer(told, 1, "feedback", True, source="user", disputed=True)
    assert found(*told) == set()

    change(told[0], "feature.outcome_observed.v1", 4, **wrong)
    assert found(*told) == {JUDGED}


def test_what_a_source_repeats_counts_once_and_another_source_counts_too(told: tuple[Log, Journal]) -> None:
    say(told, "f1", "feedback", correct=False, source="user")
    say(told, "f2", "feedback", correct=False, source="user")
    answer(told, 1, "feedback", True, source="user")
    assert found(*told) == set()

    say(told, "f3", "feedback", correct=False)
    assert found(*told) == {JUDGED}
    answer(told, 2, "feedback", True)
    assert found(*told) == set()

    answer(told, 3, "feedback", True, source="user")
    assert found(*told) == {JUDGED}


@pytest.mark.parametrize("arrived", [LATER, TIME, EARLIER])
def test_a_label_without_a_time_that_did_not_stand_is_found(told: tuple[Log, Journal], arrived: str) -> None:
    say(told, "w", "label", arrived, label=False)
    assert found(*told) == {JUDGED}

    answer(told, 1, "label", False)
    assert found(*told) == set()


def test_a_label_with_an_older_time_changes_nothing_and_one_with_a_later_time_stands(
    told: tuple[Log, Journal],
) -> None:
    say(told, "old", "label", time=EARLIER, label=False)
    assert found(*told) == set()

    say(told, "new", "label", time="2026-01-01T00:00:01+00:00", label=False)
    assert found(*told) == {JUDGED}
    answer(told, 1, "label", False)
    assert found(*told) == set()


def test_of_labels_of_one_time_the_last_to_arrive_stands(told: tuple[Log, Journal]) -> None:
    say(told, "w", "label", time=TIME, label=False)
    assert found(*told) == {JUDGED}

    answer(told, 1, "label", False)
    assert found(*told) == set()


def test_a_label_dated_after_its_arrival_counts_as_of_its_arrival(told: tuple[Log, Journal]) -> None:
    say(told, "ahead", "label", TIME, "2026-01-01T02:00:00+00:00", label=False)
    answer(told, 1, "label", False)
    say(told, "after", "label", time="2026-01-01T00:30:00+00:00", label=True)
    assert found(*told) == {JUDGED}

    answer(told, 2, "label", True)
    assert found(*told) == set()


def test_a_label_replaces_feedback_whenever_it_comes() -> None:
    log = Log()
    put(log, "serving.prediction_made.v1", "m", {"prediction": False}, "p")
    put(log, "ingest.label_received.v1", "f", {"kind": "feedback", "correct": False, "received": LATER}, time=LATER)
    put(log, "ingest.label_received.v1", "w", {"kind": "label", "label": False, "received": LATER}, time=EARLIER)
    put(log, "ingest.label_received.v1", "g", {"kind": "feedback", "label": False, "received": LATER}, time=LATER)

    told = expected(log.records["serving.prediction_made.v1"][0], log.records["ingest.label_received.v1"])

    assert [tuple(t) for t in told] == [
        (0, "feedback", "true", "", False),
        (1, "label", "false", "", False),
        (2, "feedback", "false", "", False),
    ]


def test_a_word_with_a_key_that_became_two_events_is_found(told: tuple[Log, Journal]) -> None:
    log, journal = told
    journal.asked["l", "p0"].words[0].body["key"] = "k"
    put(log, "ingest.label_received.v1", "w0", {"kind": "label", "label": True}, "p0")
    assert found(log, journal) == set()

    put(log, "ingest.label_received.v1", "w0-again", {"kind": "label", "label": True}, "p0")
    assert found(log, journal) == {"a word with a key is one event"}


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
