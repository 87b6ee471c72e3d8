"""The rules that need no spec: worse than a baseline, and labels that have stopped coming."""

from __future__ import annotations

from datetime import timedelta
from random import Random

from tests.builders.loops import NOW, loop_state

from everloop_monitoring.domain.alert_defaults import (
    NO_LABELS_ALERT,
    WORSE_ALERT,
    LabelCounts,
    LabelPaces,
    compare_with_baselines,
    follow_quality,
)
from everloop_monitoring.domain.alerts import AlertBook
from everloop_monitoring.domain.scores import ComparedErrors
from everloop_monitoring.domain.state import EvaluationState

HOUR = timedelta(hours=1)


def errors(seed: int, served: float, no_change: float, majority: float, n: int = 500) -> EvaluationState:
    """A state with errors at these rates."""
    rng = Random(seed)
    rates = served, no_change, majority
    recent = [(i, ComparedErrors(*(float(rng.random() < rate) for rate in rates))) for i in range(n)]
    return EvaluationState(outcomes=n, scored=n, recent=recent)


def test_what_is_served_is_worse_than_a_baseline_once_that_has_held_for_200_outcomes() -> None:
    book, loop = AlertBook({}), loop_state(champion="logistic-0@30")
    state = errors(1, served=0.4, no_change=0.2, majority=0.5)

    follow_quality(book, state, loop, "e1", NOW)
    state.outcomes += 199
    follow_quality(book, state, loop, "e2", NOW)
    pending = [one.state for one in book.tellings]
    state.outcomes += 1
    follow_quality(book, state, loop, "e3", NOW)
    follow_quality(book, errors(2, 0.2, 0.2, 0.5), loop, "e4", NOW)

    assert pending == ["pending"]
    assert [one.state for one in book.tellings] == ["pending", "firing", "resolved"]
    assert "is worse than no change: the error of what is served is 0.37," in book.tellings[1].alert.message


def test_chance_and_version_0_raise_nothing() -> None:
    book = AlertBook({})
    for seed in range(200):
        follow_quality(book, errors(seed, 0.3, 0.3, 0.3), loop_state(champion="logistic-0@30"), "e", NOW)
    follow_quality(book, errors(1, 0.9, 0.1, 0.1), loop_state(), "e", NOW)
    follow_quality(book, errors(1, 0.9, 0.1, 0.1, n=499), loop_state(champion="logistic-0@30"), "e", NOW)

    assert WORSE_ALERT not in book.open
    assert [one for one in book.tellings if one.state == "firing"] == []


def test_errors_that_come_in_runs_are_less_evidence_than_independent_ones() -> None:
    runs = [(i, ComparedErrors(float(i // 50 % 2), 0.4, 0.9)) for i in range(500)]
    mixed = [(i, ComparedErrors(float(i % 2), 0.4, 0.9)) for i in range(500)]

    assert compare_with_baselines(runs).by < 2
    assert compare_with_baselines([*mixed[:-1], (499, ComparedErrors(0.0, 0.4))]).by > 4


def test_labels_that_stop_are_told_after_hours_in_which_predictions_go_on() -> None:
    book, paces = AlertBook({}), LabelPaces()

    paces.follow(book, "shop", LabelCounts(1000, 900), NOW)
    paces.follow(book, "shop", LabelCounts(1099, 900), NOW + 6 * HOUR)
    paces.follow(book, "shop", LabelCounts(1100, 900), NOW + 5 * HOUR)
    nothing = list(book.open)
    paces.follow(book, "shop", LabelCounts(1100, 900), NOW + 6 * HOUR)
    raised = list(book.open)
    paces.follow(book, "shop", LabelCounts(1100, 901), NOW + 7 * HOUR)

    assert (nothing, raised, list(book.open)) == ([], [NO_LABELS_ALERT], [])
    assert book.tellings[0].alert.message == "no label has come for 6 hours, and 100 predictions were made meanwhile"


def test_labels_that_come_once_a_day_are_not_missed_before_three_days() -> None:
    book, paces = AlertBook({}), LabelPaces()
    paces.follow(book, "shop", LabelCounts(1000, 800), NOW)
    paces.follow(book, "shop", LabelCounts(1000, 900), NOW + 24 * HOUR)

    paces.follow(book, "shop", LabelCounts(5000, 900), NOW + 95 * HOUR)
    before = list(book.open)
    paces.follow(book, "shop", LabelCounts(5000, 900), NOW + 96 * HOUR)

    assert (before, list(book.open)) == ([], [NO_LABELS_ALERT])
