"""What monitoring raises alerts about, and its timeline."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.builders.events import (
    dead_letter,
    line_failed,
    model_rolled_back,
    version_state,
)
from tests.monitoring.monitoring_service import MODEL, labels, outcome, running, state

from everloop_monitoring.domain.drift import Alarm
from everloop_monitoring.domain.evaluation import DetectedDrift
from everloop_monitoring.domain.events import build_alert, build_drift_event
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.monitoring import AlertRaised, DriftDetected
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.app, pytest.mark.usefixtures("databases")]


async def test_a_drift_is_published_once_with_its_alert_and_is_on_the_timeline(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), *labels(1, (1200, 0.1), (400, 0.6)))

        s = await monitoring.status()
        [entry] = await monitoring.get("drifts")
        alerts = await monitoring.get("alerts")

    [drift] = broker.events(DriftDetected.topic)
    [alert] = broker.events(AlertRaised.topic)
    assert s["drifts"] == 1
    assert abs(drift.data.change_point - 1200) < 20
    assert drift.causationid == f"outcome-e{drift.data.offset}-0"
    assert (alert.causationid, entry["id"], alerts) == (drift.id, drift.id, [entry])


async def test_dead_letters_raise_an_alert_at_every_power_of_ten(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state())
        for n in range(25):
            await monitoring.publish(dead_letter(n))
            await monitoring.caught_up()
        alerts = await monitoring.get("alerts")

    assert [a["data"]["count"] for a in alerts] == [1, 10]
    assert [e.data.severity for e in broker.events(AlertRaised.topic)] == ["info", "warning"]


async def test_a_guardrails_rollback_is_an_alert_and_an_operators_is_only_on_the_timeline(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state())
        for n, by in enumerate(("guardrail", "person"), start=1):
            await monitoring.publish(model_rolled_back(MODEL, by, sequence=n))
        s = await monitoring.status()
        timeline = await monitoring.get("timeline")

    assert s["rollbacks"] == 2
    assert [entry["kind"] for entry in timeline] == ["rollback", "rollback"]
    [alert] = broker.events(AlertRaised.topic)
    assert alert.causationid == model_rolled_back(MODEL, "guardrail").id


async def test_a_line_that_failed_raises_an_alert_with_the_offset_and_its_new_state(tmp_path: Path) -> None:
    broker, states = MemoryBroker(), ("restarted", "ended")
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state())
        for n, new_state in enumerate(states):
            await monitoring.publish(line_failed("logistic-0", id=f"f{n}", state=new_state, offset=500 + n))
        await monitoring.status()
        alerts = await monitoring.get("alerts")

    raised = [e.data for e in broker.events(AlertRaised.topic) if isinstance(e, AlertRaised)]
    assert [(a.kind, a.severity) for a in raised] == [("line_failed", "warning"), ("line_failed", "critical")]
    assert "logistic-0 failed at offset 500 and restarts without it: not finite" in raised[0].message
    assert [entry["kind"] for entry in alerts] == ["line_failed", "line_failed"]


async def test_a_version_that_cannot_be_loaded_raises_an_alert_that_names_what_serves(tmp_path: Path) -> None:
    broker = MemoryBroker()
    reason = "sha256 is 1, expected 2"
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state())
        for new_state in ("ready", "failed", "failed"):
            await monitoring.publish(version_state("logistic-0@99", new_state, "one", reason=reason, serving="0"))
        await monitoring.status()
        alerts = await monitoring.get("alerts")

    raised = {e.id: e.data for e in broker.events(AlertRaised.topic) if isinstance(e, AlertRaised)}
    [alert] = raised.values()
    assert (alert.kind, alert.severity) == ("artifact", "critical")
    assert alert.message == "logistic-0@99 cannot be loaded on one; it serves 0: sha256 is 1, expected 2"
    assert [entry["kind"] for entry in alerts] == ["artifact"]


async def test_a_reason_that_quotes_binary_data_is_on_the_timeline(tmp_path: Path) -> None:
    broker = MemoryBroker()
    rejected = dead_letter(1, reason="not JSON: '\0\x01'")
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), rejected)
        await monitoring.caught_up()
        alerts = await monitoring.get("alerts")

    assert [a["kind"] for a in alerts] == ["dead_letter"]
    assert "not JSON" in alerts[0]["why"]


async def test_a_dead_letter_without_a_valid_loop_name_is_counted_without_a_loop(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=1)
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), dead_letter(1, loop="no\x00name"), dead_letter(2))
        status = await monitoring.status()

    assert status["dead_letters"] == 1
    assert broker.events(DEAD_LETTERS["monitoring"].topic) == []


def test_drifts_of_two_features_at_one_offset_are_two_events_with_two_alerts() -> None:
    alarm = Alarm("adwin", offset=650, change_point=600, since=50, error_before=0.1, error_after=0.4)
    cause = outcome("e650", True)
    drifts = [DetectedDrift(alarm, MODEL, 651, "data", subject) for subject in ("price", "demand")]

    events = [build_drift_event(drift, cause, cause.time) for drift in drifts]
    alerts = [build_alert(e.loop, 1, e.time, "drift", "warning", "drift", e.id) for e in events]

    assert [(e.data.kind, e.data.subject) for e in events] == [("data", "price"), ("data", "demand")]
    assert len({e.id for e in events}) == 2
    assert len({a.id for a in alerts}) == 2
