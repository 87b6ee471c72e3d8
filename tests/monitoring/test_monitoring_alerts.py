"""What monitoring raises alerts about, and its timeline."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.builders.events import (
    dead_letter,
    line_failed,
    model_rolled_back,
    run_requested,
    version_state,
)
from tests.monitoring.monitoring_service import MODEL, labels, outcome, running, state

from everloop_monitoring.domain.alert_signals import signal_of_drift
from everloop_monitoring.domain.alerts import AlertBook
from everloop_monitoring.domain.drift import Alarm
from everloop_monitoring.domain.evaluation import DetectedDrift
from everloop_monitoring.domain.events import build_alert, build_drift_event
from everloop_monitoring.domain.runbooks import runbook_of
from everloop_monitoring.domain.timeline import drift_entry
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.monitoring import AlertRaised, DriftDetected
from everloop_shared.messaging.memory import MemoryBroker

LEARNS_ON = "the champion's line goes on learning"
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
    assert (alert.causationid, entry["id"], [a["id"] for a in alerts]) == (drift.id, drift.id, [drift.id])
    assert (alert.data.alert, alert.data.state, alert.data.since is not None) == ("drift", "firing", True)
    assert re.match(r"error \d+\.\d% before offset \d+, 5\d\.\d% since", alert.data.evidence[0])
    assert alert.data.doing == "training is asked for a fresh line from the change point; " + LEARNS_ON
    assert (alerts[0]["alert"], alerts[0]["state"], alerts[0]["runbook"]) == ("drift", "firing", runbook_of("drift"))


async def test_a_drift_is_over_once_the_error_is_as_it_was_and_says_meanwhile_what_is_done(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), *labels(1, (1200, 0.1), (400, 0.6)))
        await monitoring.caught_up()
        [drift] = broker.events(DriftDetected.topic)
        await monitoring.publish(run_requested("logistic-1", id="r1", causationid=drift.id))
        await monitoring.caught_up()
        [during] = await monitoring.get("alerts?state=open")
        healthy = [outcome(f"later{i}", i % 10 != 0, prediction=True) for i in range(210)]
        await monitoring.publish(*healthy)
        await monitoring.caught_up()
        after = await monitoring.get("alerts?state=open")
        *_, last = await monitoring.get("alerts")

    assert (during["alert"], during["state"]) == ("drift", "firing")
    assert during["doing"] == "run run-logistic-1 trains line logistic-1, which the gate compares with the champion"
    assert after == []
    assert (last["kind"], last["alert"], last["state"]) == ("resolved", "drift", "resolved")
    assert [e.data.state for e in broker.events(AlertRaised.topic)] == ["firing", "resolved"]


async def test_dead_letters_raise_an_alert_at_every_power_of_ten(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state())
        for n in range(25):
            await monitoring.publish(dead_letter(n))
            await monitoring.caught_up()
        alerts = await monitoring.get("alerts")

    assert [a["data"]["count"] for a in alerts] == [1, 10]
    assert {a["alert"] for a in alerts} == {"dead_letter"}
    assert [e.data.severity for e in broker.events(AlertRaised.topic)] == ["info", "warning"]


async def test_a_record_whose_signature_is_refused_raises_a_critical_alert_for_its_topic(tmp_path: Path) -> None:
    broker, topic = MemoryBroker(), "training.model_trained.v1"
    said = {"error": "SignatureRefused", "reason": "this is not signed", "topic": topic}
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), *(dead_letter(n, service="registry", **said) for n in range(3)))
        await monitoring.caught_up()
        rows = await monitoring.get("alerts?state=open")

    alerts = {one.data.alert: one.data for one in broker.events(AlertRaised.topic) if isinstance(one, AlertRaised)}
    found = alerts[f"signature.{topic}"]
    assert (found.kind, found.severity, found.state) == ("signature", "critical", "firing")
    assert found.message == f"registry refused a record of {topic}: this is not signed"
    assert "was not acted on" in (found.doing or "")
    assert {row["alert"] for row in rows} == {"dead_letter", f"signature.{topic}"}


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
        await monitoring.publish(state(champion="logistic-0@99"))
        for new_state in ("ready", "failed", "failed"):
            await monitoring.publish(version_state("logistic-0@99", new_state, "one", reason=reason, serving="0"))
        said = (await monitoring.status())["champion"]
        alerts = await monitoring.get("alerts")
        await monitoring.publish(version_state("logistic-0@99", "ready", "one"))
        after = (await monitoring.status())["champion"]

    raised = {e.id: e.data for e in broker.events(AlertRaised.topic) if isinstance(e, AlertRaised)}
    alert = next(iter(raised.values()))
    assert (alert.kind, alert.severity) == ("artifact", "critical")
    assert alert.message == "logistic-0@99 cannot be loaded on one; it serves 0: sha256 is 1, expected 2"
    assert [entry["kind"] for entry in alerts] == ["artifact"]
    assert said["serving"] == {"one": {"version": "0", "reason": reason}}
    assert (after["version"], after["serving"]) == ("logistic-0@99", {})


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

    book = AlertBook({})

    events = [build_drift_event(drift, cause, cause.time) for drift in drifts]
    for event in events:
        book.raise_alert(signal_of_drift(event, drift_entry(event), None), cause.time)
    alerts = [build_alert(telling, cause.loop, None, cause.time) for telling in book.tellings]

    assert [(e.data.kind, e.data.subject) for e in events] == [("data", "price"), ("data", "demand")]
    assert len({e.id for e in events}) == 2
    assert [a.data.alert for a in alerts] == ["drift.data.price", "drift.data.demand"]
    assert len({a.id for a in alerts}) == 2
