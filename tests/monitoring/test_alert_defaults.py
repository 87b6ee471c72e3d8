"""The rules that need no spec: worse than a baseline, and labels that have stopped coming."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from tests.builders.events import prediction_made
from tests.builders.loops import LOOP, NOW, loop_state
from tests.databases import database_url
from tests.monitoring.monitoring_service import MODEL, outcome

from everloop_monitoring.adapters.unit_of_work import BatchUnitOfWork
from everloop_monitoring.app import MIGRATIONS
from everloop_monitoring.domain.alert_defaults import (
    NO_LABELS_ALERT,
    WORSE_ALERT,
    LabelCounts,
    LabelPace,
    compare_with_baselines,
    follow_labels,
    follow_quality,
)
from everloop_monitoring.domain.alerts import AlertBook
from everloop_monitoring.domain.scores import ComparedErrors
from everloop_monitoring.domain.state import EvaluationState
from everloop_shared.database import Database
from everloop_shared.messaging.routes import Position

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


class Labels:
    """A loop's labels as they are looked at every five minutes, with what is stored of them."""

    def __init__(self) -> None:
        self.book, self.now = AlertBook({}), NOW
        self.pace: LabelPace | None = None

    def pass_time(self, hours: float, *counts: int) -> list[str]:
        """Look on for so long, while there are so many predictions and outcomes; the alerts that are open then."""
        until = self.now + hours * HOUR
        while self.now < until:
            self.now += timedelta(minutes=5)
            changed = follow_labels(self.book, "shop", self.pace, LabelCounts(*counts), self.now)
            self.pace = changed or self.pace
        return list(self.book.open)


def test_labels_that_stop_are_told_after_hours_in_which_predictions_go_on() -> None:
    labels = Labels()
    labels.pass_time(0.1, 1000, 900)

    nothing = labels.pass_time(6, 1099, 900)
    raised = labels.pass_time(0.1, 1100, 900)
    over = labels.pass_time(1, 1100, 901)

    assert (nothing, raised, over) == ([], [NO_LABELS_ALERT], [])
    assert (
        labels.book.tellings[0].alert.message
        == "no label has come for 6 hours, and 100 predictions were made meanwhile"
    )


def test_labels_that_come_once_a_day_are_not_missed_before_three_days() -> None:
    labels = Labels()
    labels.pass_time(24, 1000, 800)
    labels.pass_time(0.1, 1000, 900)

    before = labels.pass_time(71, 5000, 900)
    raised = labels.pass_time(2, 5000, 900)

    assert (before, raised) == ([], [NO_LABELS_ALERT])


def test_while_monitoring_was_away_no_label_is_missed_and_the_pause_goes_on_where_it_was() -> None:
    labels = Labels()
    labels.pass_time(4, 1000, 900)

    labels.now += 10 * HOUR
    early = labels.pass_time(1.5, 1200, 900)
    raised = labels.pass_time(1, 1200, 900)

    assert (early, raised) == ([], [NO_LABELS_ALERT])
    assert labels.pace is not None
    assert labels.pace.longest == timedelta()


@pytest.mark.app
async def test_a_pause_of_labels_survives_the_end_of_the_process(tmp_path: Path) -> None:
    now, at = NOW, Position("t", 0, 0)

    async def look(unit: BatchUnitOfWork) -> list[str]:
        async with unit:
            await unit.record(await unit.handlers.look_at_alerts(), {})
            return [one.alert for one in (await unit.handlers.alerting.store.load_alerts([LOOP])).get(LOOP, [])]

    async def look_on(unit: BatchUnitOfWork, hours: int) -> list[str]:
        nonlocal now
        for _ in range(hours * 6):
            now += timedelta(minutes=10)
            found = await look(unit)
        return found

    async def started(database: Database) -> BatchUnitOfWork:
        unit = BatchUnitOfWork(database, clock=lambda: now)
        async with unit:
            await unit.handlers.on_loop_state(loop_state(champion=MODEL), at)
            await unit.record([], {})
        return unit

    # given: a loop whose labels stop, and a process that ends after five hours of it
    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        unit = await started(database)
        async with unit:
            for i in range(100):
                await unit.handlers.on_outcome_observed(outcome(f"e{i}", True, prediction=True), Position("o", 0, i))
            await unit.record([], {})
        await look(unit)
        async with unit:
            for i in range(200):
                await unit.handlers.on_prediction_made(prediction_made(f"p{i}"), at)
            await unit.record([], {})
        before = await look_on(unit, 5)

    # when: another one goes on
    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        unit = await started(database)
        after = await look_on(unit, 1)

    assert before == []
    assert after == [NO_LABELS_ALERT]
