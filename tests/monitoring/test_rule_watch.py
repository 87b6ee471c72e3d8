"""The loop's own rules: pending while their condition holds, firing once it has held for long enough."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.builders.loops import LOOP, NOW, loop_spec, loop_state
from tests.databases import database_url
from tests.monitoring.monitoring_service import MODEL, outcome, running, state
from tests.monitoring.test_monitoring_fairness import FAIR, UNFAIR, WATCHED, people

from everloop_metrics.measure_window import MeasureWindow
from everloop_monitoring.adapters.unit_of_work import BatchUnitOfWork
from everloop_monitoring.app import MIGRATIONS
from everloop_monitoring.domain.rule_watch import RuleWatch
from everloop_monitoring.domain.state import CountedOutcome
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.database import Database
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position

LOW: dict[str, Any] = {"alert": "low", "when": "accuracy < 0.8", "for": "100 outcomes", "severity": "critical"}


def spec_of(*rules: dict[str, Any]) -> LoopSpec:
    return loop_spec(alerts=rules)


class Log:
    """A loop's outcomes, given to the watch of its rules."""

    def __init__(self, *rules: dict[str, Any]) -> None:
        self.watch = RuleWatch().follow(spec_of(*rules))
        self.offset = -1
        self.told: list[tuple[str, str]] = []

    def add(self, n: int, right: bool) -> Log:
        for _ in range(n):
            self.offset += 1
            counted = CountedOutcome(self.offset, right, 0, False, False)
            event = outcome(f"e{self.offset}", right, prediction=True)
            told = self.watch.add_outcome(WatchedOutcome(event, self.offset, None, counted), NOW)
            self.told += [(one.data.alert, one.data.state) for one in told if isinstance(one, AlertRaised)]
        return self


def test_a_rule_fires_once_its_condition_has_held_for_so_many_outcomes() -> None:
    log = Log(LOW).add(500, True).add(140, False)
    pending = list(log.told)
    log.add(100, False).add(500, True)

    assert pending == [("rule.low", "pending")]
    assert log.told == [("rule.low", "pending"), ("rule.low", "firing"), ("rule.low", "resolved")]


def test_a_condition_that_holds_no_more_before_that_is_told_to_nobody() -> None:
    log = Log({**LOW, "for": "500 outcomes"}).add(400, True).add(110, False).add(420, True)

    assert log.told == [("rule.low", "pending"), ("rule.low", "resolved")]


def test_a_few_outcomes_say_nothing_and_an_undefined_metric_neither() -> None:
    assert Log(LOW).add(80, False).told == []
    assert Log({**LOW, "when": "roc_auc < 0.8"}).add(400, True).told == []


def test_a_corrected_label_counts_as_it_is_now() -> None:
    log = Log({**LOW, "for": "1 outcome"}).add(400, True).add(99, False)
    for offset in range(400, 499):
        before, now = (CountedOutcome(offset, label, n, False, False) for n, label in enumerate((False, True)))
        log.watch.add_outcome(WatchedOutcome(outcome("e", True, prediction=True), offset, before, now), NOW)

    log.add(21, False)

    assert log.told == []
    assert len(log.watch.recent["accuracy"]) == 500


def test_the_watch_follows_the_file_and_drops_what_no_rule_names() -> None:
    watch = Log(LOW).add(300, True).watch

    watch.follow(spec_of({**LOW, "when": "accuracy < 0.7"}, {**LOW, "alert": "f", "when": "f1 < 0.5"}))

    assert {metric: len(recent) for metric, recent in watch.recent.items()} == {"accuracy": 300, "f1": 0}
    assert not RuleWatch.is_on(spec_of())


GAP: dict[str, Any] = {"alert": "gap", "when": "fairness.sex.equal_opportunity > 0.2", "for": "100 outcomes"}


def told_of_groups(watch: RuleWatch, *events: OutcomeObserved, first: int = 0) -> list[AlertRaised]:
    told = list[Event]()
    for offset, event in enumerate(events, first):
        counted = CountedOutcome(offset, event.data.label, 0, False, False)
        told += watch.add_outcome(WatchedOutcome(event, offset, None, counted), NOW)
    return [one for one in told if isinstance(one, AlertRaised)]


def test_a_rule_about_groups_is_pending_firing_and_over_with_the_groups_and_intervals_that_it_rests_on() -> None:
    watch = RuleWatch().follow(loop_spec(**{**WATCHED, "alerts": [GAP]}))

    fair = told_of_groups(watch, *people(400, FAIR))
    unfair = told_of_groups(watch, *people(1_500, UNFAIR, first=400), first=400)
    again = told_of_groups(watch, *people(2_000, FAIR, first=1_900), first=1_900)

    assert fair == []
    assert [(one.data.alert, one.data.state) for one in unfair] == [("rule.gap", "pending"), ("rule.gap", "firing")]
    assert unfair[0].data.message.startswith("fairness.sex.equal_opportunity is 0.")
    assert [e.split(" 0.")[0] for e in unfair[0].data.evidence] == [
        "sex male: true positive rate",
        "sex female: true positive rate",
    ]
    assert " to " in unfair[0].data.evidence[0]
    assert [(one.data.alert, one.data.state) for one in again] == [("rule.gap", "resolved")]


def test_groups_with_few_outcomes_and_models_that_are_fair_raise_nothing() -> None:
    few = RuleWatch().follow(loop_spec(**{**WATCHED, "alerts": [{**GAP, "for": "1 outcome"}]}))
    watches = [RuleWatch().follow(loop_spec(**{**WATCHED, "alerts": [GAP]})) for _ in range(10)]

    told = told_of_groups(few, *people(60, {"female": 0.0, "male": 1.0}))
    told += [one for seed, watch in enumerate(watches) for one in told_of_groups(watch, *people(600, FAIR, seed))]

    assert told == []


def test_a_corrected_label_moves_a_group_and_the_groups_go_with_the_rule() -> None:
    watch, twin = (RuleWatch().follow(loop_spec(**{**WATCHED, "alerts": [GAP]})) for _ in range(2))
    events = list(people(300, UNFAIR))
    told_of_groups(watch, *events)
    told_of_groups(twin, *(replace(e, data=replace(e.data, label=not e.data.label)) for e in events))

    for offset, event in enumerate(events):
        before, now = (CountedOutcome(offset, y, 0, False, False) for y in (event.data.label, not event.data.label))
        watch.add_outcome(WatchedOutcome(event, offset, before, now), NOW)

    assert watch.groups == twin.groups
    assert watch.follow(loop_spec(**{**WATCHED, "alerts": [LOW]})).groups == MeasureWindow(max_lines=1)


@pytest.mark.app
async def test_a_rule_of_a_file_is_an_alert_with_its_severity_and_runbook(tmp_path: Path) -> None:
    broker, rule = MemoryBroker(), {**LOW, "for": "1 outcome", "runbook": "call Ada"}
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(spec={"alerts": [rule]}))
        await monitoring.publish(*(outcome(f"e{i}", False, prediction=True) for i in range(100)))
        await monitoring.caught_up()
        alerts = await monitoring.get("alerts?state=open")

    [alert] = [one for one in alerts if one["kind"] == "rule"]
    assert (alert["alert"], alert["state"], alert["data"]["severity"]) == ("rule.low", "firing", "critical")
    assert alert["what"] == "accuracy is 0, and the loop's file says to tell when accuracy < 0.8"
    assert alert["runbook"] == "call Ada"


@pytest.mark.app
async def test_a_rule_that_has_to_hold_for_a_time_fires_then_and_ends_with_its_rule(tmp_path: Path) -> None:
    now, at = NOW, Position("t", 0, 0)
    spec = spec_of({**LOW, "for": "5m"})
    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        unit = BatchUnitOfWork(database, clock=lambda: now)

        async def look() -> list[str]:
            async with unit:
                await unit.record(await unit.handlers.look_at_alerts(), {})
                alerts = await unit.handlers.alerting.store.load_alerts([LOOP])
                return [one.state for one in alerts.get(LOOP, []) if one.kind == "rule"]

        async with unit:
            await unit.handlers.on_loop_state(loop_state(spec, champion=MODEL), at)
            for i in range(200):
                await unit.handlers.on_outcome_observed(outcome(f"e{i}", False, prediction=True), Position("t", 0, i))
            await unit.record([], {})
        now += timedelta(minutes=4)
        before = await look()
        now += timedelta(minutes=1)
        after = await look()
        await unit.handlers.on_loop_state(loop_state(spec_of(), champion=MODEL, sequence=2), at)
        gone = await look()

    assert (before, after, gone) == (["pending"], ["firing"], [])
