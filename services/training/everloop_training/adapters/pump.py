"""Publishes what the worker says, in order, and lets a snapshot count only after all that was said before it."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from pathlib import Path

from everloop_schemas.envelope import Event
from everloop_schemas.training import LineFailed, ModelTrained, RunRequested
from everloop_shared.errors import Disposition, ServiceError
from everloop_shared.messaging.routes import Publisher
from everloop_training.messages import Done, Learned, SnapshotWritten
from everloop_training.metrics import FAILURES, RUNS, SNAPSHOT_OFFSET, VERSIONS

log = logging.getLogger(__name__)
WAITING = 100


class Pump:
    """A bounded queue between the worker and the bus; while the broker is away it fills, and the worker waits."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._queue: asyncio.Queue[Learned | SnapshotWritten | Done] = asyncio.Queue(maxsize=WAITING)
        self.done = asyncio.Event()

    async def put(self, message: Learned | SnapshotWritten | Done) -> None:
        """Add a message of the worker; waits while the queue is full."""
        await self._queue.put(message)

    async def run(self) -> None:
        """Work until cancelled; raises where an event can never be published."""
        while True:
            match await self._queue.get():
                case Learned(events):
                    await self.publish(list(events))
                case SnapshotWritten() as snapshot:
                    await self._counted(snapshot)
                case Done():
                    self.done.set()

    async def _counted(self, snapshot: SnapshotWritten) -> None:
        try:
            await asyncio.to_thread(os.replace, snapshot.path, snapshot.final)
        except OSError as e:
            log.warning("snapshot does not count", extra={"path": snapshot.path, "reason": str(e)})
            return
        SNAPSHOT_OFFSET.labels(Path(snapshot.final).stem.rpartition("-")[2]).set(snapshot.next_offset)

    async def publish(self, events: list[Event]) -> None:
        """Publish, trying again for as long as the broker is away; raises where that does not help."""
        delay = 0.1
        while events:
            try:
                await self._publisher.publish(events)
                break
            except ServiceError as e:
                if e.disposition is not Disposition.RETRY:
                    raise
                log.warning("not published, trying again", extra={"events": len(events), "reason": e.detail})
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, 5.0)
        for event in events:
            _count(event)


def _count(event: Event) -> None:
    match event:
        case RunRequested():
            RUNS.labels(event.loop, event.data.trigger).inc()
        case ModelTrained():
            VERSIONS.labels(event.loop, event.data.reason).inc()
        case LineFailed():
            FAILURES.labels(event.loop).inc()
