"""Publishes the worker's events in order; a snapshot counts only once all events before it are published."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from everloop_schemas.envelope import Event, SignedEvent
from everloop_schemas.training import LineFailed, ModelTrained, RunRequested
from everloop_shared.backoff import Backoff
from everloop_shared.errors import Disposition, ServiceError
from everloop_shared.messaging.routes import Publisher
from everloop_training.metrics import FAILURES, RUNS, SNAPSHOT_OFFSET, VERSIONS
from everloop_training.worker.protocol.messages import AllSnapshotsWritten, EventsProduced, SnapshotWritten, ToPublish

if TYPE_CHECKING:
    from everloop_shared.signing.keys import SigningKey

log = logging.getLogger(__name__)
QUEUED_MESSAGES = 100
BACKOFF = Backoff(first_s=0.1, longest_s=5.0)


class EventPublisher:
    """A bounded queue between worker and bus; it fills while the broker is away, and then the worker has to wait.

    `drained` is set once everything before AllSnapshotsWritten is published. Versions are signed by `signer`, if any.
    """

    def __init__(self, publisher: Publisher, signer: SigningKey | None = None) -> None:
        self._publisher, self._signer = publisher, signer
        self._queue: asyncio.Queue[ToPublish] = asyncio.Queue(maxsize=QUEUED_MESSAGES)
        self.drained = asyncio.Event()

    async def put(self, message: ToPublish) -> None:
        """Add a message of the worker; waits while the queue is full."""
        await self._queue.put(message)

    async def run(self) -> None:
        """Work until cancelled; raises where an event can never be published."""
        while True:
            match await self._queue.get():
                case EventsProduced(events):
                    await self.publish(list(events))
                case SnapshotWritten() as snapshot:
                    await self._put_in_place(snapshot)
                case AllSnapshotsWritten():
                    self.drained.set()

    async def publish(self, events: list[Event]) -> None:
        """Publish, retrying for as long as the broker is away; raises where that does not help."""
        pauses = BACKOFF.pauses()
        if self._signer is not None:
            events = [_signed(event, self._signer) for event in events]
        while events:
            try:
                await self._publisher.publish(events)
                break
            except ServiceError as e:
                if e.disposition is not Disposition.RETRY:
                    raise
                log.warning("events not published, trying again", extra={"events": len(events), "reason": e.detail})
            await asyncio.sleep(next(pauses))
        for event in events:
            _count(event)

    async def _put_in_place(self, snapshot: SnapshotWritten) -> None:
        try:
            await asyncio.to_thread(os.replace, snapshot.path, snapshot.final)
        except OSError as e:
            log.warning("snapshot not renamed", extra={"path": snapshot.path, "reason": str(e)})
            return
        SNAPSHOT_OFFSET.labels(Path(snapshot.final).stem.rpartition("-")[2]).set(snapshot.next_offset)


def _signed(event: Event, signer: SigningKey) -> Event:
    from everloop_shared.signing.events import sign_event  # its library is loaded where there is a key

    return sign_event(event, signer) if isinstance(event, SignedEvent) else event


def _count(event: Event) -> None:
    match event:
        case RunRequested():
            RUNS.labels(event.loop, event.data.trigger).inc()
        case ModelTrained():
            VERSIONS.labels(event.loop, event.data.reason).inc()
        case LineFailed():
            FAILURES.labels(event.loop).inc()
