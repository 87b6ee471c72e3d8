"""Monitoring on the memory broker with its real database, and the loop that it evaluates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from httpx import ASGITransport, AsyncClient
from tests.builders.events import outcome_observed
from tests.builders.loops import LOOP, loop_spec, loop_state
from tests.databases import database_url
from tests.http_apps import http_app

from everloop_monitoring.app import build
from everloop_monitoring.settings import MonitoringSettings
from everloop_schemas.envelope import Event, Scalar
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.memory import MemoryBroker

MODEL = "logistic-0@30"


def state(loop: str = LOOP, **data: Any) -> LoopState:
    """The state of a loop that `MODEL` serves."""
    return loop_state(loop_spec(loop=loop, **data.pop("spec", {})), **{"champion": MODEL, **data})


def outcome(prediction_id: str, label: Scalar | None, **changes: Any) -> OutcomeObserved:
    """An outcome of a prediction of `MODEL`."""
    return outcome_observed(prediction_id, label, **{"version": MODEL, "role": "champion", **changes})


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
        for consumer in service.consumers:
            stack.push_async_callback(consumer.stop)
            await consumer.start()
        http = AsyncClient(transport=ASGITransport(http_app(service)), base_url="http://localhost")
        yield RunningMonitoring(broker, await stack.enter_async_context(http))
