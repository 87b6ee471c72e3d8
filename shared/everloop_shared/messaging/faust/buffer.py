"""Events that Faust has delivered and that are not handled yet, per partition."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

from faust.types import TP

WAIT_FOR_TOPIC_S = 0.02
"""How long a partition waits for the topic that has to be handled before it."""
MAX_BUFFERED_BYTES = 16_000_000
"""The most that is buffered, and one record more; half of it makes a batch."""


class EventBuffer:
    """Buffers events in order per partition, at most two batches; more is left to Faust's own flow control.

    The events of a partition that backs off stay here while the others go on.
    """

    def __init__(self, batch_size: int) -> None:
        self._size = batch_size
        self._events: dict[TP, deque[Any]] = {}
        self._bytes = 0
        self._ready_at: dict[TP, float] = {}
        self._aside: set[TP] = set()
        self._arriving: AsyncIterator[Any] | None = None
        self._queue: Any = None
        self._next: asyncio.Task[Any] | None = None
        self._closed = False

    def open(self, stream: Any) -> None:
        """Take events from this stream from now on; the caller acknowledges them."""
        self.clear()
        self._queue = stream.channel.queue
        self._arriving = aiter(stream.noack().events())

    def close(self) -> None:
        """Stop taking events: the stream has ended."""
        if self._next:
            self._next.cancel()

    def clear(self, closed: bool = False) -> None:
        """Drop all events; with `closed`, drop those that arrive later as well.

        After a revocation, a late event would otherwise be handled before the earlier ones, which are consumed again
        from the commit.
        """
        self._events.clear()
        self._bytes = 0
        self._ready_at.clear()
        self._aside.clear()
        self._closed = closed

    async def fill(self) -> None:
        """Wait until there are events of a partition that does not back off."""
        while not self._ready() or (self._has_room() and not self._queue.empty()):
            event = await self._next_event()
            if event is not None and not self._closed:
                self._events.setdefault(event.message.tp, deque()).append(event)
                self._bytes += len(event.message.value or b"")
            elif self._ready():
                return

    def take(self) -> dict[TP, list[Any]]:
        """The events of a batch; they stay buffered until `done`."""
        batch, events_left, bytes_left = dict[TP, list[Any]](), self._size, MAX_BUFFERED_BYTES // 2
        for tp in self._ready():
            batch[tp] = _first(self._events[tp], events_left, bytes_left)
            events_left -= len(batch[tp])
            bytes_left -= sum(len(event.message.value or b"") for event in batch[tp])
            if events_left <= 0 or bytes_left <= 0:
                break
        return batch

    def done(self, tp: TP, count: int, backoff_s: float) -> None:
        """Remove the first `count` events of a partition; the rest may be taken after `backoff_s`."""
        events = self._events.get(tp)
        if events is None:
            return  # cleared meanwhile
        for _ in range(count):
            self._bytes -= len(events.popleft().message.value or b"")
        if not events:
            del self._events[tp]
        self._aside.discard(tp)
        if backoff_s:
            self._ready_at[tp] = time.monotonic() + backoff_s
        else:
            self._ready_at.pop(tp, None)

    def put_aside(self, tp: TP) -> None:
        """Another topic has to be handled first, whose events may not be here yet: do not count these meanwhile."""
        self.done(tp, 0, WAIT_FOR_TOPIC_S)
        self._aside.add(tp)

    def waits(self, tp: TP) -> bool:
        """Whether a partition backs off."""
        return self._ready_at.get(tp, 0.0) > time.monotonic()

    def _ready(self) -> list[TP]:
        return [tp for tp in self._events if not self.waits(tp)]

    def _has_room(self) -> bool:
        counted = [events for tp, events in self._events.items() if tp not in self._aside]
        return sum(map(len, counted)) < 2 * self._size and self._bytes < MAX_BUFFERED_BYTES

    async def _next_event(self) -> Any:
        """The next event; None when a backoff ends before it arrives."""
        assert self._arriving is not None, "open first"
        if self._next is None and (not self._events or not self._queue.empty()):
            return await anext(self._arriving)
        ends = [self._ready_at[tp] for tp in self._events if tp in self._ready_at]
        timeout = max(0.0, min(ends) - time.monotonic()) if ends else None
        if self._next is None and not self._has_room():
            await asyncio.sleep(timeout or 0.01)
            return None
        self._next = self._next or asyncio.ensure_future(anext(self._arriving))
        await asyncio.wait([self._next], timeout=timeout)
        if not self._next.done():
            return None
        arrived, self._next = self._next, None
        return arrived.result()


def _first(events: Iterable[Any], most: int, most_bytes: int) -> list[Any]:
    """The first events within both limits, at least one."""
    taken: list[Any] = []
    for event in events:
        most_bytes -= len(event.message.value or b"")
        if taken and (len(taken) >= most or most_bytes < 0):
            break
        taken.append(event)
    return taken
