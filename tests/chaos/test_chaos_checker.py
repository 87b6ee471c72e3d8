"""The checker finds faults that the tests put on a log."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from tests.chaos.check_decisions import check_dead_letters, check_decisions, equal_totals, recount
from tests.chaos.correct_log import change, claims_found, put
from tests.chaos.faults import schedule
from tests.chaos.findings import Findings
from tests.chaos.journal import Journal
from tests.chaos.topics import Log


def test_a_correct_log_has_no_findings(run: tuple[Log, Journal]) -> None:
    assert claims_found(*run) == set()


WRONG_VALUES: list[tuple[str, str, int, dict[str, Any]]] = [
    (
        "vectors equal a replay of the inputs",
        "feature.features_computed.v1",
        1,
        {"features": {"x": 2 / 7, "mean": 0.1}},
    ),
    ("REST features equal a replay", "serving.prediction_made.v1", 3, {"features": {"x": 3 / 7, "mean": 0.9}}),
    ("an answer equals the logged prediction", "serving.prediction_made.v1", 1, {"prediction": True}),
    ("an outcome carries its prediction", "feature.outcome_observed.v1", 2, {"version": "logistic-0@9"}),
    (
        "outcomes follow from predictions, labels and feedback",
        "feature.outcome_observed.v1",
        2,
        {"label": False},
    ),
    ("losses equal a line learned again", "training.challenge_updated.v1", 0, {"losses": {"0": [1.0, 1.0, 0.0, 0.0]}}),
    ("every outcome has its losses", "training.challenge_updated.v1", 0, {"offsets": [0, 1, 2, 9]}),
    ("every outcome is evaluated", "monitoring.evaluation_updated.v1", 0, {"offsets": [0, 1, 2, 9]}),
    ("the log has what was sent", "ingest.event_received.v1", 0, {"entity": "other"}),
]


@pytest.mark.parametrize(("claim", "topic", "at", "values"), WRONG_VALUES, ids=[p[0] for p in WRONG_VALUES])
def test_a_record_with_a_wrong_value_is_found(
    run: tuple[Log, Journal], claim: str, topic: str, at: int, values: dict[str, Any]
) -> None:
    change(run[0], topic, at, **values)

    assert claim in claims_found(*run)


LOST = {
    "what was acknowledged is on the log": "ingest.event_received.v1",
    "an acknowledged id has a prediction": "serving.prediction_made.v1",
    "an acknowledged label is on the log": "ingest.label_received.v1",
    "outcomes follow from predictions, labels and feedback": "feature.outcome_observed.v1",
    "every observation has a vector": "feature.features_computed.v1",
}


@pytest.mark.parametrize(("claim", "topic"), LOST.items(), ids=list(LOST))
def test_a_record_that_was_lost_is_found(run: tuple[Log, Journal], claim: str, topic: str) -> None:
    run[0].records[topic].pop(0)

    assert claim in claims_found(*run)


def test_a_different_duplicate_of_a_prediction_is_found(run: tuple[Log, Journal]) -> None:
    log, journal = run
    put(
        log,
        "serving.prediction_made.v1",
        "m0",
        {**log.records["serving.prediction_made.v1"][0].data, "version": "x"},
        "p0",
    )

    assert "duplicates of a record are equal" in claims_found(log, journal)


def test_an_equal_duplicate_is_no_finding(run: tuple[Log, Journal]) -> None:
    log, journal = run
    put(log, "serving.prediction_made.v1", "m0", dict(log.records["serving.prediction_made.v1"][0].data), "p0")

    assert claims_found(log, journal) == set()


def test_a_prediction_without_a_request_is_found(run: tuple[Log, Journal]) -> None:
    log, journal = run
    put(log, "serving.prediction_made.v1", "m9", dict(log.records["serving.prediction_made.v1"][0].data), "p9")

    assert "every id on the log was sent" in claims_found(log, journal)


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


def test_a_valid_record_in_a_dead_letter_is_found() -> None:
    log, findings = Log(), Findings()
    place = {"topic": "ingest.event_received.v1", "partition": 0, "offset": 0}
    put(log, "ingest.event_received.v1", "p0", {})
    put(log, "feature.dead_letter.v1", "d", {**place, "error": "E", "reason": "r", "value": ""})

    check_dead_letters(log, set(), findings)

    assert set(findings.by_claim()) == {"a dead letter has its bytes and a reason", "no valid record is a dead letter"}


def test_totals_that_differ_are_found(run: tuple[Log, Journal]) -> None:
    counted = recount(run[0], "l")
    status = {**counted, "accuracy": {"served": counted["served"]}}

    assert equal_totals(counted, status) == {}
    assert equal_totals(counted, {**status, "outcomes": 5}) == {"outcomes": (4, 5)}


def test_the_same_seed_is_the_same_schedule() -> None:
    first, again, other = schedule(7, 2.0), schedule(7, 2.0), schedule(8, 2.0)

    assert [next(first) for _ in range(50)] == [next(again) for _ in range(50)]
    assert next(other) != next(schedule(7, 2.0))
