"""Monitoring on the memory broker with its real database, and the loop that it evaluates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from httpx import AsyncClient
from tests.builders.events import outcome_observed
from tests.builders.loops import LOOP, loop_spec, loop_state
from tests.builders.running import RunningService, http_client, run_consumers
from tests.databases import database_url

from everloop_monitoring.app import build
from everloop_monitoring.settings import MonitoringSettings
from everloop_schemas.catalogue import TOPICS
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


def labels(seed: int, *parts: tuple[int, float]) -> list[Event]:
    """Outcomes whose served error has these rates, each for so many outcomes."""
    rng = Random(seed)
    rates = [rate for n, rate in parts for _ in range(n)]
    return [outcome(f"e{i}", rng.random() >= rate) for i, rate in enumerate(rates)]


@dataclass
class RunningMonitoring(RunningService):
    """Monitoring, with a client of its endpoints."""

    http: AsyncClient

    async def get(self, endpoint: str, loop: str = LOOP) -> Any:
        answer = await self.http.get(f"/v1/loops/{loop}/{endpoint}")
        return answer.json()

    async def caught_up(self) -> None:
        """Wait until every record has been handled; fails at the deadline."""
        await self.until(lambda: not self._lag())

    async def status(self) -> dict[str, Any]:
        await self.caught_up()
        answer: dict[str, Any] = await self.get("status")
        return answer

    def _lag(self) -> list[str]:
        own = ("monitoring.drift", "monitoring.eval", "monitoring.alert", "registry.loop_state")
        return [
            f"{topic}/{p}"
            for topic in TOPICS
            for p in range(self.broker.partitions)
            if not topic.startswith(own)
            and len(self.broker.log(topic, p)) > self.broker.committed.get(("monitoring", topic, p), 0)
        ]


@asynccontextmanager
async def running(
    broker: MemoryBroker, data: Path, settle_s: float = 0.0, token_file: Path | None = None, **urls: str
) -> AsyncIterator[RunningMonitoring]:
    """Monitoring up on `broker`, with its database below `data`; `urls` are those of its settings."""
    url = database_url(data)
    settings = MonitoringSettings(data=data, settle_s=settle_s, database_url=url, token_file=token_file, **urls)
    service = build(settings, broker.engine)
    async with run_consumers(service), http_client(service) as http:
        yield RunningMonitoring(broker, service, http)
