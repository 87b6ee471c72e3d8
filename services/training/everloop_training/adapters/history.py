"""Reads history from the log, for lines that start in the past and for workers that have to catch up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from everloop_learning.loops import KnownLoops
from everloop_learning.outcome import Outcome
from everloop_schemas.envelope import Event, Topic
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_shared.backoff import Backoff
from everloop_shared.errors import Disposition, ServiceError
from everloop_shared.messaging.routes import LogReader, Position
from everloop_training.adapters.personal import WITHOUT_KEYS, PersonalOutcomes

T = TypeVar("T")
BACKOFF = Backoff(first_s=0.1, longest_s=5.0)


@dataclass
class LogHistory:
    """Reads the log without the records of deleted loops and of earlier lifetimes.

    Waits while the broker or the keys of personal values are away.
    """

    loops: KnownLoops
    log: LogReader
    personal: PersonalOutcomes = WITHOUT_KEYS

    async def outcomes(self, partition: int, start: int, stop: int) -> list[tuple[str, Outcome]]:
        """The outcomes of a partition with start <= offset < stop, each with its loop."""
        records = await self.records(OutcomeObserved.topic, partition, start, stop)
        found = [(at, event) for at, event in records if isinstance(event, OutcomeObserved)]
        return await self._retried(lambda: self.personal.outcomes(found))

    async def alerts(self, partition: int, start: int, stop: int) -> list[tuple[int, DriftDetected]]:
        """The drifts with outcomes in a partition with start <= offset < stop, each with its offset."""
        found = await self.records(DriftDetected.topic, partition, start, stop)
        drifts = [(at.offset, e) for at, e in found if isinstance(e, DriftDetected)]
        return [(offset, e) for offset, e in drifts if e.data.has_outcomes]

    async def records(self, topic: Topic, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """The events of a partition with start <= offset < stop, each with its position."""
        found = await self._retried(lambda: self.log.read(topic, partition, start, stop))
        return [(at, event) for at, event in found if not self.loops.is_past(event)]

    async def _retried(self, read: Callable[[], Awaitable[T]]) -> T:
        pauses = BACKOFF.pauses()
        while True:
            try:
                return await read()
            except ServiceError as e:
                if e.disposition is not Disposition.RETRY:
                    raise
            await asyncio.sleep(next(pauses))
