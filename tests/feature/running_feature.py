"""A running feature service and its broker, as tests see them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from everloop_schemas.envelope import Event
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.service import Service

E = TypeVar("E", bound=Event)


@dataclass
class RunningFeature:
    """A running feature service and its broker."""

    broker: MemoryBroker
    service: Service

    async def publish(self, *events: Event) -> None:
        """Publish events, for the service to consume."""
        await self.broker.engine("ingest").publish(events)

    def published(self, kind: type[E]) -> list[E]:
        """All events of a kind, partition by partition."""
        return [e for e in self.broker.events(kind.topic) if isinstance(e, kind)]

    async def wait_for(self, kind: type[E], count: int, within_s: float = 5.0) -> list[E]:
        """Wait for `count` events of a kind; fails when they do not come."""
        await self.until(lambda: len(self.published(kind)) >= count, within_s)
        return self.published(kind)

    async def until(self, done: Callable[[], object], within_s: float = 5.0) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + within_s
        while not done():
            assert time.monotonic() < deadline, "the deadline passed"
            await self.broker.wait(0.01)
