"""Specs on the log that an older version accepted and the registry refuses now: every service goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.builders.running import until
from tests.everloop.memory_bus.six_services import ask, installation

from everloop.memory_bus.app import run
from everloop_registry.domain.decision_log import DecisionContext, DecisionLog
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopApplied, LoopAppliedData
from everloop_schemas.training import ModelTrained
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.service import Service

NOW = datetime.now(UTC)
ROWS = 40
OLD: dict[str, dict[str, Any]] = {
    "every": {"refresh": {"every": 0}},
    "within": {"label": {"within": "9999999d"}},
    "digits": {"label": {"within": f"{'9' * 400}d"}},
    "over": {"features": [{"name": "m", "mean": "x", "over": "9999999d"}, {"fields": "all"}]},
    "below": {"retrain": {"below": 75, "cooldown": 0}},
    "never": {"retrain": {"on_schedule": "0 0 30 2 *"}},
    "mixed": {"task": "multiclass", "label": {"classes": ["1", 1, True]}},
    "enum": {"schema": {"x": {"type": "number"}, "c": {"type": "string", "enum": [1], "missing": "null"}}},
    "watched": {"monitor": {"slices": ["x"], "fairness": ["x"], "latency_p99": "20ms"}},
}


async def applied(broker: MemoryBroker, name: str, part: dict[str, Any]) -> None:
    """What the log has of a loop that an older version took."""
    whole = {"loop": name, "task": "binary", "schema": {"x": {"type": "number"}}, **part}
    decision_log = DecisionLog(name, DecisionContext(None, None, NOW))
    decision_log.decide(LoopApplied, name, LoopAppliedData(spec=LoopSpec.model_validate(whole)))
    for event in decision_log.events_to_publish():
        await broker.append(event.topic.name, event.key(), event.encode())


@pytest.mark.app
@pytest.mark.timeout(180)
async def test_loops_that_an_older_release_accepted_go_on_and_harm_nobody(tmp_path: Path) -> None:
    broker = MemoryBroker()
    for name, part in OLD.items():
        await applied(broker, name, part)
    services, stop = installation(broker, tmp_path), asyncio.Event()
    running = asyncio.create_task(run(list(services.values()), stop))
    try:
        await until(lambda: running.done() or not any(s.not_ready() for s in services.values()), 30)
        good = {"loop": "good", "task": "binary", "schema": {"x": {"type": "number"}}}
        assert (await ask(services, "registry", "PUT", "/v1/loops/good", json=good)).status_code == 201
        for name in ("good", *OLD):
            await lived(services, name, "1" if name == "mixed" else None)

        await until(lambda: running.done() or set(outcomes(broker).values()) == {ROWS}, 40)
        await until(lambda: running.done() or set(trained(broker)) == {"good", *OLD}, 40)

        assert not running.done()
        assert outcomes(broker) == dict.fromkeys(("good", *OLD), ROWS)
    finally:
        stop.set()
        await asyncio.wait([running])
    running.result()


async def lived(services: dict[str, Service], loop: str, label: str | None) -> None:
    """A loop's events and their labels."""
    events = [{"id": f"{loop}-{i}", "data": {"x": i % 7}} for i in range(ROWS)]
    labels = [{"id": f"{loop}-{i}", "label": label or i % 7 > 3} for i in range(ROWS)]
    for endpoint, rows in (("events", events), ("labels", labels)):
        await until_known(services, loop, endpoint, rows)


async def until_known(services: dict[str, Service], loop: str, endpoint: str, rows: list[dict[str, Any]]) -> None:
    """Send until the loop is known there."""
    deadline = asyncio.get_running_loop().time() + 10
    while (answer := await ask(services, "ingest", "POST", f"/v1/loops/{loop}/{endpoint}", rows)).status_code == 404:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert answer.status_code == 202, answer.text


def outcomes(broker: MemoryBroker) -> dict[str, int]:
    """How many outcomes each loop has."""
    return dict(Counter(loops_of(broker, OutcomeObserved.topic.name)))


def trained(broker: MemoryBroker) -> list[str]:
    """The loops that have a trained version."""
    return loops_of(broker, ModelTrained.topic.name)


def loops_of(broker: MemoryBroker, topic: str) -> list[str]:
    """The loop of each record, by its key: nothing is decoded, as this is asked again and again."""
    records = [r for p in range(broker.partitions) for r in broker.log(topic, p)]
    return [(r.key or b"").partition(b"/")[0].decode() for r in records]
