"""Follows the registry's topics and tells another system of each event, in the background and at its pace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter, Gauge

from everloop_registry.adapters.mirror_state import MirrorState
from everloop_registry.metrics import MIRROR_FAILURES, MIRROR_LAG, MIRROR_REFUSED
from everloop_schemas.envelope import Event, Topic
from everloop_schemas.registry import Decided
from everloop_schemas.tracking import RunLogged
from everloop_shared.backoff import Backoff
from everloop_shared.messaging.routes import LogReader, Position

log = logging.getLogger(__name__)
EVERY_S = 2.0
READ_RECORDS = 100
TRIES_OF_REFUSED = 3
BACKOFF = Backoff(1.0, 60.0)


class MirrorAway(Exception):
    """The system cannot be reached, is overloaded, or does not accept the credentials: a later attempt may succeed."""


class MirrorRefused(Exception):
    """The system refuses a request for what it says; `code` is its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True)
class Mirrored:
    """What is told to which system: its name, the topics, and the metrics that say how it goes.

    All that a topic had is told before the next one is read, and what another topic's record follows from is never
    later than it: list causes before their consequences.
    """

    name: str
    topics: Sequence[Topic]
    lag: Gauge
    failures: Counter
    refused: Counter


MLFLOW = Mirrored("MLflow mirror", (RunLogged.topic, Decided.topic), MIRROR_LAG, MIRROR_FAILURES, MIRROR_REFUSED)
"""A run is there before its versions."""


class Writer(Protocol):
    """Tells a system of events, so that a second time changes nothing there."""

    async def apply(self, event: Event, at: Position) -> None:
        """Tell of an event; raises MirrorAway or MirrorRefused."""

    async def leave_out(self, event: Event) -> None:
        """Go on as if the system had been told of an event that it refuses."""


class Mirror:
    """A background job: reads topics from where it stopped, and tells another system of each event.

    It never ends and holds up nothing: while the system is away it waits, longer each time. An event that the system
    refuses is tried three times, then logged, counted and left out.
    """

    def __init__(
        self,
        what: Mirrored,
        reader: LogReader,
        writer: Writer,
        state: MirrorState,
        partitions: int,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._what, self._reader, self._writer, self._state = what, reader, writer, state
        self._partitions, self._backoff = range(partitions), backoff
        self._refusals = 0

    async def run(self) -> None:
        """Mirror until cancelled."""
        failures = 0
        while True:
            try:
                moved = await self._move_on()
                failures = 0
            except Exception as e:  # whatever it is, the registry goes on deciding
                failures += 1
                self._what.failures.inc()
                pause_s = self._backoff.pause_s(failures)
                known = isinstance(e, MirrorAway | MirrorRefused)
                fields = {"reason": str(e)[:500], "again_in_s": round(pause_s, 1)}
                log.warning("the %s is behind", self._what.name, extra=fields, exc_info=None if known else e)
                await asyncio.sleep(pause_s)
            else:
                if not moved:
                    await asyncio.sleep(EVERY_S)

    async def _move_on(self) -> bool:
        """Mirror what each partition has now; whether there was something to mirror."""
        positions = await self._state.positions()
        ends = dict[tuple[str, int], int]()
        for topic in reversed(self._what.topics):  # a cause that is read up to its end has all its consequences' causes
            ends |= {(topic.name, p): await self._reader.end_offset(topic, p) for p in self._partitions}
        behind = {at: max(0, end - positions.get(at, 0)) for at, end in ends.items()}
        self._what.lag.set(sum(behind.values()))
        for topic in self._what.topics:
            for partition in self._partitions:
                at = topic.name, partition
                for start in range(positions.get(at, 0), ends[at], READ_RECORDS):
                    await self._mirror(topic, partition, start, min(ends[at], start + READ_RECORDS))
                    behind[at] = ends[at] - min(ends[at], start + READ_RECORDS)
                    self._what.lag.set(sum(behind.values()))
        return any(end > positions.get(at, 0) for at, end in ends.items())

    async def _mirror(self, topic: Topic, partition: int, start: int, stop: int) -> None:
        records = await self._reader.read(topic, partition, start, stop)
        done = start
        try:
            for position, event in records:
                await self._apply(event, position)
                done = position.offset + 1
            done = stop
        finally:
            if done > start:
                await self._state.move(topic.name, partition, done)

    async def _apply(self, event: Event, at: Position) -> None:
        try:
            await self._writer.apply(event, at)
        except MirrorRefused as e:
            self._refusals += 1
            if self._refusals < TRIES_OF_REFUSED:
                raise
            self._what.refused.inc()
            fields = {"event": event.id, "type": event.type, "loop": event.loop, "reason": str(e)[:500]}
            await self._writer.leave_out(event)
            log.error("the %s refuses an event, which is left out", self._what.name, extra=fields)
        self._refusals = 0
