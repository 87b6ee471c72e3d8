"""Monitoring tells drifts before labels: on the topic, as an alert, at its endpoint, and apart from concept drifts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.builders.loops import LOOP, loop_state
from tests.monitoring.data_drift.streams import CHAMPION, SPEC, changed, features, predictions
from tests.monitoring.monitoring_service import running, state

from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import AlertRaised, DriftDetected
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = pytest.mark.app


async def publish(broker: MemoryBroker, event: Event) -> None:
    """Publish what monitoring reads before it begins with the other topics."""
    await broker.append(event.topic.name, event.key(), event.encode())


async def test_a_drift_before_labels_is_told_with_its_features(tmp_path: Path, databases: object) -> None:
    broker = MemoryBroker()
    rows = changed(features(1500), 1300, lambda row: {**row, "price": None})
    await publish(broker, state(spec=SPEC))
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(*predictions(rows))
        status = await monitoring.status()
        answer = await monitoring.get("features")
        [alert] = await monitoring.get("alerts")
        of_concept, early = await monitoring.get("drifts"), await monitoring.get("drifts?early=true")

        [drift], [raised] = monitoring.published(DriftDetected), monitoring.published(AlertRaised)

    price, demand, _, predicted = answer["features"]
    assert (status["drifts"], raised.causationid) == (0, drift.id)
    assert alert["what"].startswith("data drift: price")
    assert (drift.data.subject, drift.data.version, drift.data.slices) == ("price", CHAMPION, ())
    assert (of_concept, [told["id"] for told in early]) == ([], [drift.id])
    assert (price["drifted"], demand["drifted"], predicted["kind"]) == (True, False, "prediction")
    assert price["missing"] > 0.3
    assert sum(price["before"]["counts"]) == answer["reference"]["outcomes"] == 1000
    assert [told["id"] for told in answer["drifts"]] == [drift.id]


async def test_a_drift_in_one_slice_is_told_with_the_slice(tmp_path: Path, databases: object) -> None:
    broker = MemoryBroker()
    rows = changed(features(1500), 1200, lambda row: {**row, "demand": None} if row["plan"] == "free" else row)
    await publish(broker, state(spec={**SPEC, "monitor": {"drift": "all", "slices": ["plan"]}}))
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(*predictions(rows))
        await monitoring.status()
        answer = await monitoring.get("features")
        [alert] = await monitoring.get("alerts")

        [drift] = monitoring.published(DriftDetected)

    assert (drift.data.subject, drift.data.slices, answer["slices"]) == ("demand", ("plan=free",), ["plan=free"])
    assert alert["what"] == "data drift: demand in plan=free"
    assert alert["cause"].endswith("most of all demand, in plan=free and hardly elsewhere")


async def test_a_loop_that_watches_nothing_has_no_features(tmp_path: Path, databases: object) -> None:
    broker = MemoryBroker()
    await publish(broker, loop_state())
    async with running(broker, tmp_path) as monitoring:
        unknown = await monitoring.http.get("/v1/loops/unknown/features")
        answer = await monitoring.get("features", LOOP)

    assert unknown.status_code == 404
    assert (answer["features"], answer["reference"], answer["window"], answer["slices"]) == ([], None, 0, [])
