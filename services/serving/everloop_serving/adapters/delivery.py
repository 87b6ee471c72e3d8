"""Publishes what waits in the spool or in memory, in order, with retries while the broker is away."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Self

from everloop_schemas.envelope import Event
from everloop_schemas.serving import PredictionMade
from everloop_serving.adapters.spool import DiskSpool
from everloop_serving.domain.recent import RecentPredictions
from everloop_shared.backoff import Backoff
from everloop_shared.errors import Disposition, ServiceError
from everloop_shared.messaging.routes import EncodedEvent, encode

log = logging.getLogger(__name__)
Publish = Callable[[Sequence[EncodedEvent]], Awaitable[None]]
BACKOFF = Backoff(first_s=0.1, longest_s=5.0)
GATHER_S = 0.025
"""Pause between two publishes, in seconds: records that arrive meanwhile leave together, at a fraction of the cost.

One that arrives after a pause leaves at once.
"""
GATHER_BELOW_BYTES = 500_000
"""While more than that waits, there is no pause."""


async def publish_spool(spool: DiskSpool, publish: Publish) -> None:
    """Publish the spool's records for ever. After a crash before the position is stored, the same events come again."""
    while True:
        spool.appended.clear()
        await _publish_all(spool, publish)
        await spool.appended.wait()


async def deliver_spool(spool: DiskSpool, publish: Publish, drain_s: float) -> None:
    """As `publish_spool`; when cancelled, at the stop, it goes on for `drain_s` seconds, or until nothing is left.

    By then the endpoints take nothing new. What is left then is delivered by the next process that has the folder.
    """
    try:
        await publish_spool(spool, publish)
    except asyncio.CancelledError:
        if drain_s and spool.record_count:
            with suppress(TimeoutError):
                await asyncio.wait_for(_publish_all(spool, publish), drain_s)
            if spool.record_count:
                log.warning("the spool is not empty at the stop", extra={"records": spool.record_count})
        raise


async def _publish_all(spool: DiskSpool, publish: Publish) -> None:
    """Publish until nothing is left."""
    while True:
        batch, position = spool.next()
        if not batch:
            return
        await publish_with_retries([event for events in batch for event in events], publish)
        spool.advance(position, len(batch))
        await asyncio.sleep(GATHER_S if spool.bytes < GATHER_BELOW_BYTES else 0)


async def publish_with_retries(events: Sequence[EncodedEvent], publish: Publish) -> None:
    """Publish, with retries while the broker is away; an event that is refused for good is logged and left out."""
    failures = 0
    while True:
        try:
            return await publish(events)
        except ServiceError as e:
            reason = e.detail
            if e.disposition is Disposition.DEAD_LETTER:
                break
            level = logging.WARNING if failures == 0 else logging.DEBUG
            log.log(level, "broker away, will retry", extra={"reason": reason})
        failures += 1
        await asyncio.sleep(BACKOFF.pause_s(failures))
    if len(events) == 1:
        topic, key, _ = events[0]
        log.error("event refused for good", extra={"topic": topic, "key": key.decode(), "reason": reason})
        return
    for event in events:
        await publish_with_retries([event], publish)


class SpoolRecovery:
    """On entering, remembers the predictions that the spool has from the process before this one.

    Those that are published are among them: a repeated request may come before they are read back from the topic.
    """

    def __init__(self, spool: DiskSpool, recent: RecentPredictions) -> None:
        self._spool, self._recent = spool, recent

    async def __aenter__(self) -> Self:
        for event in self._spool.stored():
            if isinstance(event, PredictionMade):
                self._recent.add(event, durable=True)
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None


class VersionReports:
    """The states of this instance's versions that wait to be published. In memory only: a restart reports again."""

    def __init__(self, limit: int = 1_000) -> None:
        self._waiting: deque[EncodedEvent] = deque(maxlen=limit)
        self._added = asyncio.Event()

    def add(self, event: Event) -> None:
        """Queue a report; beyond the limit the oldest is dropped."""
        self._waiting.append(encode(event))
        self._added.set()

    async def publish_all(self, publish: Publish) -> None:
        """Publish the reports for ever, in order."""
        while True:
            await self._added.wait()
            self._added.clear()
            while self._waiting:
                await publish_with_retries([self._waiting.popleft()], publish)
