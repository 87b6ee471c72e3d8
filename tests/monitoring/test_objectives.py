"""The loop's service levels: cases in buckets of time, burn rates, and the alerts that follow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import model_trained, prediction_made
from tests.builders.loops import NOW, loop_spec, loop_state
from tests.databases import database_url
from tests.monitoring.monitoring_service import MODEL, outcome, running, state

from everloop_monitoring.adapters.row_names import form_of
from everloop_monitoring.adapters.unit_of_work import BatchUnitOfWork
from everloop_monitoring.app import MIGRATIONS
from everloop_monitoring.domain.alerts import AlertBook
from everloop_monitoring.domain.burn_rate import COARSE_KEPT, FINE_KEPT, Buckets, burn_rate, find_burning
from everloop_monitoring.domain.objectives import MAX_WAITING, ObjectivesWatch
from everloop_monitoring.domain.state import CountedOutcome
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.database import Database
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position

HOUR_S = 3600.0
NOW_S = NOW.timestamp()
ALL: dict[str, Any] = {
    "objectives": {
        "prediction": {"within": "1s", "share": 0.9},
        "learned": {"within": "1h", "share": 0.9},
        "recovered": {"within": "1d", "share": 0.9},
    },
    "latency_p99": "20ms",
}


def watch_of(**monitor: Any) -> ObjectivesWatch:
    return ObjectivesWatch().follow(loop_spec(monitor=monitor or ALL))


def label(offset: int, at: datetime) -> WatchedOutcome:
    counted = CountedOutcome(offset, True, 0, False, False)
    return WatchedOutcome(outcome(f"e{offset}", True, labelled=at), offset, None, counted)


def counts(watch: ObjectivesWatch, name: str, now: datetime = NOW) -> tuple[int, int]:
    return watch.cases[name].counts("30d", now.timestamp())


def test_a_prediction_is_in_time_by_its_observations_time_and_quick_by_its_model() -> None:
    watch = watch_of()

    for late_s, latency_ms in ((0.5, 5.0), (1.0, 25.0), (1.5, 5.0)):
        made = prediction_made("a", observed=NOW, time=NOW + timedelta(seconds=late_s), latency_ms=latency_ms)
        watch.add_prediction(made, NOW)

    assert counts(watch, "prediction") == (2, 3)
    assert counts(watch, "latency_p99") == (2, 3)


def test_labels_are_learned_with_the_first_version_at_their_offset_or_beyond() -> None:
    watch = watch_of()
    for offset in range(10):
        watch.add_outcome(label(offset, NOW + timedelta(minutes=10 * offset)), NOW)

    watch.add_version(model_trained("logistic-0", 6, time=NOW + timedelta(minutes=65)), NOW + timedelta(hours=2))
    learned = counts(watch, "learned", NOW + timedelta(hours=2))
    watch.add_version(model_trained("other-1", 6, time=NOW + timedelta(minutes=70)), NOW + timedelta(hours=2))
    expired = watch.expire(NOW + timedelta(hours=3))

    assert learned == (6, 7)
    assert expired
    assert counts(watch, "learned", NOW + timedelta(hours=3)) == (6, 10)
    assert watch.waiting == []


def test_what_is_kept_is_bounded_whatever_records_hold() -> None:
    watch = watch_of()
    for n in range(2000):
        at = NOW + timedelta(hours=7 * n * (-1) ** n)
        watch.add_prediction(prediction_made("a", observed=at, time=at), max(at, NOW))
        watch.add_outcome(label(n, at), max(at, NOW))

    buckets = watch.cases["prediction"]
    assert len(buckets.fine) <= FINE_KEPT + 1
    assert len(buckets.coarse) <= COARSE_KEPT + 1
    assert len(watch.waiting) <= MAX_WAITING
    assert len(form_of(ObjectivesWatch).dump_json(watch)) < 40_000


def test_the_course_of_an_objective_is_told_by_five_minutes_and_by_six_hours() -> None:
    watch, later = watch_of(), NOW + timedelta(hours=8)
    for hours, late_s in ((0.0, 2.0), (7.0, 0.5), (7.0, 2.0), (7.9, 0.5)):
        at = NOW + timedelta(hours=hours)
        watch.add_prediction(prediction_made("a", observed=at, time=at + timedelta(seconds=late_s)), later)

    [prediction] = [one for one in watch.describe(later) if one["objective"] == "prediction"]

    hour_s, start_s = int(HOUR_S), int(NOW_S)
    assert [tuple(one.values()) for one in prediction["history"]["6h"]] == [
        (start_s + 7 * hour_s, 1, 2),
        ((start_s + 79 * hour_s // 10) // 300 * 300, 1, 1),
    ]
    assert [tuple(one.values()) for one in prediction["history"]["30d"]] == [
        (start_s, 0, 1),
        (start_s + 6 * hour_s, 2, 3),
    ]


def test_a_case_in_the_far_future_is_left_out() -> None:
    buckets = Buckets()

    buckets.add(NOW_S + 301, False, NOW_S)
    buckets.add(NOW_S + 299, True, NOW_S)

    assert buckets.counts("30d", NOW_S + 300) == (1, 1)


@pytest.mark.parametrize(
    ("bad_hours", "bad_share", "severity"),
    [(1, 0.2, "critical"), (6, 0.08, "critical"), (72, 0.02, "warning"), (72, 0.005, None)],
)
def test_the_faster_a_budget_burns_the_graver_and_the_sooner_it_is_told(
    bad_hours: int, bad_share: float, severity: str | None
) -> None:
    buckets = Buckets()
    for minutes in range(0, 72 * 60, 5):
        at_s = NOW_S - minutes * 60
        bad = round(1000 * bad_share) if minutes < bad_hours * 60 else 0
        buckets.add(at_s, False, NOW_S, bad)
        buckets.add(at_s, True, NOW_S, 1000 - bad)

    rule = find_burning(buckets, 0.99, NOW_S, 20)

    assert (rule.severity if rule else None) == severity


def test_an_alert_ends_soon_after_the_cases_are_good_again() -> None:
    buckets = Buckets()
    buckets.add(NOW_S - 30 * 60, False, NOW_S, 500)
    buckets.add(NOW_S, False, NOW_S, 500)
    burning = find_burning(buckets, 0.99, NOW_S, 20)

    buckets.add(NOW_S + 2000, True, NOW_S + 2000, 5000)
    soon, later = (find_burning(buckets, 0.99, NOW_S + after_s, 20) for after_s in (2400, 7 * HOUR_S))

    assert burning is not None
    assert (burning.severity, soon.severity if soon else None, later) == ("critical", "warning", None)
    assert burn_rate((0, 0), 0.99) is None


def test_the_alert_of_an_objective_says_how_many_and_ends_with_the_objective() -> None:
    watch, book = watch_of(), AlertBook({})
    for n in range(100):
        made = prediction_made("a", observed=NOW, time=NOW + timedelta(seconds=0 if n % 10 else 5))
        watch.add_prediction(made, NOW)
    watch.follow_alerts(book, "market", NOW)
    calm = list(book.open)
    for _ in range(900):
        watch.add_prediction(prediction_made("a", observed=NOW, time=NOW + timedelta(seconds=5)), NOW)
    watch.follow_alerts(book, "market", NOW)
    watch.follow_alerts(book, "market", NOW)
    told = [(one.alert.alert, one.state, one.alert.severity) for one in book.tellings]
    watch.follow(loop_spec(monitor={"latency_p99": "20ms"}))
    watch.follow_alerts(book, "market", NOW)

    assert calm == ["objective.prediction"]
    assert told == [("objective.prediction", "firing", "warning"), ("objective.prediction", "firing", "critical")]
    assert book.tellings[-1].state == "resolved"
    [described] = watch.describe(NOW)
    assert (described["objective"], described["total"], described["budget_left"]) == ("latency_p99", 1000, 1.0)


@pytest.mark.app
async def test_the_endpoint_shows_objectives_counted_from_records(tmp_path: Path) -> None:
    broker = MemoryBroker()
    now = datetime.now(NOW.tzinfo)
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(spec={"monitor": ALL}))
        await monitoring.publish(
            prediction_made("a", observed=now, time=now),
            prediction_made("b", observed=now, time=now + timedelta(seconds=2)),
            outcome("a", True, labelled=now),
        )
        await monitoring.caught_up()
        await monitoring.publish(model_trained("logistic-0", 0, time=now + timedelta(minutes=1)))
        await monitoring.caught_up()
        objectives = await monitoring.get("objectives")

    by_name = {one["objective"]: one for one in objectives}
    assert (by_name["prediction"]["good"], by_name["prediction"]["total"]) == (1, 2)
    assert by_name["prediction"]["burn"]["1h"] == pytest.approx(5.0)
    assert by_name["prediction"]["budget_left"] == pytest.approx(-4.0)
    assert (by_name["learned"]["good"], by_name["learned"]["total"]) == (1, 1)
    assert by_name["recovered"] == {
        "objective": "recovered", "within_s": 86400.0, "share": 0.9, "good": 0, "total": 0,
        "burn": {"1h": None, "6h": None, "3d": None}, "budget_left": None, "history": {"6h": [], "30d": []},
    }  # fmt: skip


@pytest.mark.app
async def test_a_drift_that_goes_on_for_too_long_burns_its_objective_once(tmp_path: Path) -> None:
    now, offset = NOW, 0
    loop = loop_state(loop_spec(monitor={"objectives": {"recovered": {"within": "1h", "share": 0.9}}}), champion=MODEL)
    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        unit = BatchUnitOfWork(database, clock=lambda: now)

        async def handle(labels: Sequence[bool]) -> None:
            nonlocal offset
            async with unit:
                await unit.handlers.on_loop_state(loop, Position("t", 0, 0))
                for right in labels:
                    event = outcome(f"e{offset}", right, prediction=True)
                    await unit.handlers.on_outcome_observed(event, Position("t", 0, offset))
                    offset += 1
                await unit.record([], {})

        async def look() -> tuple[list[str], tuple[int, int]]:
            async with unit:
                told = await unit.handlers.look_at_alerts()
                await unit.record(told, {})
                projections = unit.handlers.projections
                [watch] = await projections.load_watches(loop.loop, (ObjectivesWatch,), loop.data.spec)
            assert isinstance(watch, ObjectivesWatch)
            names = [one.data.alert for one in told if isinstance(one, AlertRaised) and one.data.state == "firing"]
            return names, counts(watch, "recovered", now)

        await handle([i % 10 != 0 for i in range(600)])
        await handle([i % 3 == 0 for i in range(300)])
        soon = await look()
        now += timedelta(hours=2)
        late, later = await look(), await look()
        await handle([i % 10 != 0 for i in range(250)])
        recovered = await look()

    assert soon == ([], (0, 0))
    assert (late[1], later[1], recovered[1]) == ((0, 1), (0, 1), (0, 1))
    assert later[0] == ["objective.recovered"]
