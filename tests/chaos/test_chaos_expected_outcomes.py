"""The checker knows which outcomes follow from labels and feedback."""

from __future__ import annotations

from typing import Any

import pytest
from tests.chaos.correct_log import TIME, change, claims_found, put
from tests.chaos.expected_outcomes import expected_outcomes
from tests.chaos.journal import Journal, SentLabel
from tests.chaos.topics import Log

OUTCOMES_FOLLOW = "outcomes follow from predictions, labels and feedback"
EARLIER, LATER = "2025-12-31T23:00:00+00:00", "2026-01-01T01:00:00+00:00"


def send(run: tuple[Log, Journal], id: str, kind: Any, arrived: str = LATER, time: str = "", **values: Any) -> None:
    """One more label or feedback on p3, in the journal and on the log; by default without a time of its own."""
    log, journal = run
    put(log, "ingest.label_received.v1", id, {"kind": kind, "received": arrived, **values}, "p3", time=time or arrived)
    body = {"id": "p3", **values} | ({"time": time} if time else {})
    journal.observations["l", "p3"].labels.append(SentLabel(kind, body, acknowledged=True))


def publish_outcome(run: tuple[Log, Journal], correction: int, kind: str, label: bool, **more: Any) -> None:
    """One more outcome of p3."""
    before = run[0].records["feature.outcome_observed.v1"][3].data
    data = {**before, "correction": correction, "kind": kind, "label": label, **more}
    put(run[0], "feature.outcome_observed.v1", f"o3-{correction}", data, "p3")


def test_feedback_beside_a_label_leaves_the_label_and_one_that_replaced_it_is_found(
    run: tuple[Log, Journal],
) -> None:
    send(run, "f", "feedback", label=False, source="user")
    publish_outcome(run, 1, "feedback", True, source="user", disputed=True)
    assert claims_found(*run) == set()

    change(run[0], "feature.outcome_observed.v1", 4, label=False, disputed=None)
    assert claims_found(*run) == {OUTCOMES_FOLLOW}


@pytest.mark.parametrize("wrong", [{"disputed": None}, {"source": "another"}, {"kind": "label"}], ids=str)
def test_feedback_beside_a_label_with_another_outcome_is_found(run: tuple[Log, Journal], wrong: dict[str, Any]) -> None:
    send(run, "f", "feedback", correct=True, source="user")
    publish_outcome(run, 1, "feedback", True, source="user", disputed=True)
    assert claims_found(*run) == set()

    change(run[0], "feature.outcome_observed.v1", 4, **wrong)
    assert claims_found(*run) == {OUTCOMES_FOLLOW}


def test_what_a_source_repeats_counts_once_and_another_source_counts_too(run: tuple[Log, Journal]) -> None:
    send(run, "f1", "feedback", correct=False, source="user")
    send(run, "f2", "feedback", correct=False, source="user")
    publish_outcome(run, 1, "feedback", True, source="user")
    assert claims_found(*run) == set()

    send(run, "f3", "feedback", correct=False)
    assert claims_found(*run) == {OUTCOMES_FOLLOW}
    publish_outcome(run, 2, "feedback", True)
    assert claims_found(*run) == set()

    publish_outcome(run, 3, "feedback", True, source="user")
    assert claims_found(*run) == {OUTCOMES_FOLLOW}


@pytest.mark.parametrize("arrived", [LATER, TIME, EARLIER])
def test_a_label_without_a_time_that_did_not_count_is_found(run: tuple[Log, Journal], arrived: str) -> None:
    send(run, "w", "label", arrived, label=False)
    assert claims_found(*run) == {OUTCOMES_FOLLOW}

    publish_outcome(run, 1, "label", False)
    assert claims_found(*run) == set()


def test_a_label_with_an_older_time_changes_nothing_and_one_with_a_later_time_counts(
    run: tuple[Log, Journal],
) -> None:
    send(run, "old", "label", time=EARLIER, label=False)
    assert claims_found(*run) == set()

    send(run, "new", "label", time="2026-01-01T00:00:01+00:00", label=False)
    assert claims_found(*run) == {OUTCOMES_FOLLOW}
    publish_outcome(run, 1, "label", False)
    assert claims_found(*run) == set()


def test_of_labels_of_one_time_the_last_to_arrive_counts(run: tuple[Log, Journal]) -> None:
    send(run, "w", "label", time=TIME, label=False)
    assert claims_found(*run) == {OUTCOMES_FOLLOW}

    publish_outcome(run, 1, "label", False)
    assert claims_found(*run) == set()


def test_a_label_dated_after_its_arrival_counts_as_of_its_arrival(run: tuple[Log, Journal]) -> None:
    send(run, "ahead", "label", TIME, "2026-01-01T02:00:00+00:00", label=False)
    publish_outcome(run, 1, "label", False)
    send(run, "after", "label", time="2026-01-01T00:30:00+00:00", label=True)
    assert claims_found(*run) == {OUTCOMES_FOLLOW}

    publish_outcome(run, 2, "label", True)
    assert claims_found(*run) == set()


def test_a_label_replaces_feedback_whenever_it_comes() -> None:
    log = Log()
    put(log, "serving.prediction_made.v1", "m", {"prediction": False}, "p")
    put(log, "ingest.label_received.v1", "f", {"kind": "feedback", "correct": False, "received": LATER}, time=LATER)
    put(log, "ingest.label_received.v1", "w", {"kind": "label", "label": False, "received": LATER}, time=EARLIER)
    put(log, "ingest.label_received.v1", "g", {"kind": "feedback", "label": False, "received": LATER}, time=LATER)

    found = expected_outcomes(log.records["serving.prediction_made.v1"][0], log.records["ingest.label_received.v1"])

    assert [tuple(outcome) for outcome in found] == [
        (0, "feedback", "true", "", False),
        (1, "label", "false", "", False),
        (2, "feedback", "false", "", False),
    ]


def test_a_label_with_a_key_that_became_two_events_is_found(run: tuple[Log, Journal]) -> None:
    log, journal = run
    journal.observations["l", "p0"].labels[0].body["key"] = "k"
    put(log, "ingest.label_received.v1", "w0", {"kind": "label", "label": True}, "p0")
    assert claims_found(log, journal) == set()

    put(log, "ingest.label_received.v1", "w0-again", {"kind": "label", "label": True}, "p0")
    assert claims_found(log, journal) == {"a label with a key is one event"}
