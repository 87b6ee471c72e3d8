"""Carries what waits on this side to the bus, in order, for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from everloop_schemas.envelope import Event
from everloop_schemas.serving import PredictionMade
from everloop_serving.adapters.spool import DiskSpool
from everloop_serving.domain.recent import Recent
from everloop_shared.backoff import Backoff
from everloop_shared.errors import Disposition, ServiceError

log = logging.getLogger(__name__)
Publish = Callable[[Sequence[Event]], Awaitable[None]]
BACKOFF = Backoff(first_s=0.1, longest_s=5.0)


async def deliver(spool: DiskSpool, publish: Publish) -> None:
    """Publish the spool's records for ever. A crash between ack and mark sends the same events again."""
    while True:
        spool.grown.clear()
        batch, mark = spool.next()
        if not batch:
            await spool.grown.wait()
            continue
        await send([event for events in batch for event in events], publish)
        spool.advance(mark, len(batch))


async def send(events: Sequence[Event], publish: Publish) -> None:
    """Publish, trying again with back-off while the bus is away; one that it refuses for good is left out, loudly."""
    failures = 0
    while True:
        try:
            return await publish(events)
        except ServiceError as e:
            reason = e.detail
            if e.disposition is Disposition.DEAD_LETTER:
                break
            log.log(logging.WARNING if failures == 0 else logging.DEBUG, "bus away", extra={"reason": reason})
        failures += 1
        await asyncio.sleep(BACKOFF.pause_s(failures))
    if len(events) == 1:
        log.error("the bus refuses an event", extra={"id": events[0].id, "loop": events[0].loop, "reason": reason})
        return
    for event in events:
        await send([event], publish)


class Promised:
    """On entering, remembers the predictions that the last life of this process left in the spool."""

    def __init__(self, spool: DiskSpool, recent: Recent) -> None:
        self._spool, self._recent = spool, recent

    async def __aenter__(self) -> Self:
        for event in self._spool.undelivered():
            if isinstance(event, PredictionMade):
                self._recent.put(event, kept=True)
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None


class Reports:
    """What the registry should hear of this instance's versions, waiting in memory: a restart says it again."""

    def __init__(self, limit: int = 1_000) -> None:
        self._waiting: deque[Event] = deque(maxlen=limit)
        self._grown = asyncio.Event()

    def add(self, event: Event) -> None:
        """Queue a report; the oldest gives way when the bus has been away for very long."""
        self._waiting.append(event)
        self._grown.set()

    async def deliver(self, publish: Publish) -> None:
        """Publish the reports for ever, in order."""
        while True:
            await self._grown.wait()
            self._grown.clear()
            while self._waiting:
                await send([self._waiting.popleft()], publish)
