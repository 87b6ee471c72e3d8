"""Mirrors versions, aliases and runs to a company's own MLflow server, in the background and at its pace."""

from __future__ import annotations

import asyncio
import logging

from everloop_registry.adapters.mirror_server import MirrorAway, MirrorRefused
from everloop_registry.adapters.mirror_state import MirrorState
from everloop_registry.adapters.mirror_writer import MirrorWriter
from everloop_registry.metrics import MIRROR_LAG, MIRROR_REFUSED
from everloop_schemas.envelope import Event, Topic
from everloop_schemas.registry import Decided
from everloop_schemas.tracking import RunLogged
from everloop_shared.backoff import Backoff
from everloop_shared.messaging.routes import LogReader

log = logging.getLogger(__name__)
TOPICS = (RunLogged.topic, Decided.topic)
"""In this order, so that a run is there before its versions."""
EVERY_S = 2.0
READ_RECORDS = 100
TRIES_OF_REFUSED = 3
BACKOFF = Backoff(1.0, 60.0)


class Mirror:
    """A background job: reads the registry's topics from where it stopped, and writes each event to the other server.

    It never ends and holds up nothing: while the server is away it waits, longer each time. An event that the server
    refuses is tried three times, then logged, counted and left out.
    """

    def __init__(
        self, reader: LogReader, writer: MirrorWriter, state: MirrorState, partitions: int, backoff: Backoff = BACKOFF
    ) -> None:
        self._reader, self._writer, self._state = reader, writer, state
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
                pause_s = self._backoff.pause_s(failures)
                known = isinstance(e, MirrorAway | MirrorRefused)
                fields = {"reason": str(e)[:500], "again_in_s": round(pause_s, 1)}
                log.warning("the MLflow mirror is behind", extra=fields, exc_info=None if known else e)
                await asyncio.sleep(pause_s)
            else:
                if not moved:
                    await asyncio.sleep(EVERY_S)

    async def _move_on(self) -> bool:
        """Mirror a batch of each partition; whether there was something to mirror."""
        positions = await self._state.positions()
        ends = {(t.name, p): await self._reader.end_offset(t, p) for t in TOPICS for p in self._partitions}
        behind = {at: end - positions.get(at, 0) for at, end in ends.items()}
        MIRROR_LAG.set(sum(behind.values()))
        for topic in TOPICS:
            for partition in self._partitions:
                at = topic.name, partition
                if behind[at] > 0:
                    await self._mirror(topic, partition, positions.get(at, 0), ends[at])
        return any(behind.values())

    async def _mirror(self, topic: Topic, partition: int, start: int, end: int) -> None:
        stop = min(end, start + READ_RECORDS)
        records = await self._reader.read(topic, partition, start, stop)
        done = start
        try:
            for position, event in records:
                await self._apply(event)
                done = position.offset + 1
            done = stop
        finally:
            if done > start:
                await self._state.move(topic.name, partition, done)

    async def _apply(self, event: Event) -> None:
        try:
            await self._writer.apply(event)
        except MirrorRefused as e:
            self._refusals += 1
            if self._refusals < TRIES_OF_REFUSED:
                raise
            MIRROR_REFUSED.inc()
            fields = {"event": event.id, "type": event.type, "loop": event.loop, "reason": str(e)[:500]}
            log.error("the MLflow server refuses an event, which is left out", extra=fields)
        self._refusals = 0
