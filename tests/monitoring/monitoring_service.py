"""Monitoring on the memory broker with its real database, and the events of a small loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from httpx import ASGITransport, AsyncClient
from tests.databases import database_url

from everloop_monitoring.app import build
from everloop_monitoring.settings import MonitoringSettings
from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetterData
from everloop_schemas.envelope import Event, Scalar, at
from everloop_schemas.feature import OutcomeObserved, OutcomeObservedData
from everloop_schemas.ingest import EventReceived, EventReceivedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion, LoopState, LoopStateData
from everloop_schemas.serving import ObservationReceived, PredictionMade, PredictionMadeData, Shadow
from everloop_shared.http import create_app
from everloop_shared.messaging.memory import MemoryBroker

LOOP = "market"
MODEL = "logistic-0@30"


def state(loop: str = LOOP, **data: Any) -> LoopState:
    spec = LoopSpec.model_validate({"loop": loop, "task": "binary", "schema": {"a": {"type": "number"}}})
    data = {"champion": LiveVersion(version=MODEL, since=at(5)), "sequence": 1, **data}
    return LoopState(id="s", time=at(0), subject=loop, loop=loop, revision=1, data=LoopStateData(spec=spec, **data))


def observation(id: str, rest: bool = False) -> Event:
    data = EventReceivedData(entity="default", fields={"a": 1.0}, received=at(0))
    if rest:
        return ObservationReceived(id=id, time=at(0), subject="default", loop=LOOP, data=data)
    return EventReceived(id=id, time=at(0), subject="default", loop=LOOP, data=data)


def prediction(id: str) -> Event:
    data = PredictionMadeData(
        entity="default", features={"a": 1.0}, prediction=True, version=MODEL, role="champion", propensity=1.0,
        latency_ms=0.1, observed=at(0), door="stream",
    )  # fmt: skip
    return PredictionMade(id=f"p-{id}", time=at(0), subject=id, loop=LOOP, data=data)


def outcome(
    id: str, label: Scalar | None, *, prediction: Scalar = True, correction: int = 0, shadows: Sequence[Shadow] = (),
    loop: str = LOOP,
) -> Event:  # fmt: skip
    data = OutcomeObservedData(
        prediction_id=id, entity="default", label=label, correction=correction, labelled=at(1), predicted=at(0),
        features={"a": 1.0}, prediction=prediction, version=MODEL, role="champion", propensity=1.0,
        shadows=tuple(shadows),
    )  # fmt: skip
    return OutcomeObserved(id=f"o-{id}-{correction}", time=at(1), subject=id, loop=loop, revision=1, data=data)


def dead_letter(n: int, service: str = "feature") -> Event:
    data = DeadLetterData(topic="t", partition=0, offset=n, error="Rejected", reason="bad", key=None, value=None)
    return DEAD_LETTERS[service](id=f"d-{service}-{n}", time=at(0), subject=f"t/0/{n}", loop=LOOP, data=data)


class RunningMonitoring:
    """The running service: its broker, its endpoints, and ways to wait."""

    def __init__(self, broker: MemoryBroker, http: AsyncClient) -> None:
        self.broker, self.http = broker, http

    async def publish(self, *events: Event) -> None:
        for event in events:
            await self.broker.append(event.topic.name, event.key(), event.encode())

    async def get(self, endpoint: str, loop: str = LOOP) -> Any:
        answer = await self.http.get(f"/v1/loops/{loop}/{endpoint}")
        return answer.json()

    async def caught_up(self, deadline_s: float = 20.0) -> None:
        """Wait until every record has been handled; fails at the deadline."""
        end = time.monotonic() + deadline_s
        while self._lag():
            assert time.monotonic() < end, f"still behind: {self._lag()}"
            await asyncio.sleep(0.01)

    async def status(self) -> dict[str, Any]:
        await self.caught_up()
        answer: dict[str, Any] = await self.get("status")
        return answer

    def _lag(self) -> list[str]:
        own = ("monitoring.drift", "monitoring.eval", "monitoring.alert", "registry.loop_state")
        return [
            f"{topic}/{p}"
            for (topic, p), log in list(self.broker._logs.items())
            if not topic.startswith(own) and len(log) > self.broker.committed.get(("monitoring", topic, p), 0)
        ]


@asynccontextmanager
async def running(broker: MemoryBroker, data: Path, settle_s: float = 0.0) -> AsyncIterator[RunningMonitoring]:
    """Monitoring up on `broker`, with its database below `data`."""
    settings = MonitoringSettings(data=data, settle_s=settle_s, database_url=database_url(data))
    service = build(settings, broker.engine)
    async with AsyncExitStack() as stack:
        for resource in service.resources:
            await stack.enter_async_context(resource)
        for engine in service.engines:
            stack.push_async_callback(engine.stop)
            await engine.start()
        http = AsyncClient(transport=ASGITransport(create_app(service)), base_url="http://localhost")
        yield RunningMonitoring(broker, await stack.enter_async_context(http))
