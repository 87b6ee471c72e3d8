"""Events that Faust has delivered and no batch has finished yet, per partition, with those that back off."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

from faust.types import TP

WAIT_FOR_TOPIC_S = 0.02
MAX_BUFFERED_BYTES = 16_000_000
"""So much is held here at most, and one record more; half of it makes a batch."""


class EventBuffer:
    """Holds events in order per partition, at most two batches of them; beyond, Faust's own flow control holds.

    A partition that backs off keeps its events here while the others go on.
    """

    def __init__(self, batch_size: int) -> None:
        self._size = batch_size
        self._held: dict[TP, deque[Any]] = {}
        self._bytes = 0
        self._ready_at: dict[TP, float] = {}
        self._aside: set[TP] = set()
        self._arriving: AsyncIterator[Any] | None = None
        self._queue: Any = None
        self._next: asyncio.Task[Any] | None = None
        self._closed = False

    def open(self, stream: Any) -> None:
        """Take events from this stream from now on; their acks are ours."""
        self.clear()
        self._queue = stream.channel.queue
        self._arriving = aiter(stream.noack().events())

    def close(self) -> None:
        """The stream has ended."""
        if self._next:
            self._next.cancel()

    def clear(self, closed: bool = False) -> None:
        """Drop everything that no batch has finished; while `closed`, what arrives as well.

        What is on its way when partitions go would otherwise get ahead of what comes again from the commit.
        """
        self._held.clear()
        self._bytes = 0
        self._ready_at.clear()
        self._aside.clear()
        self._closed = closed

    async def fill(self) -> None:
        """Wait for something to do: events of a partition that does not back off."""
        while not self._due() or (self._room() and not self._queue.empty()):
            event = await self._arrival()
            if event is not None and not self._closed:
                self._held.setdefault(event.message.tp, deque()).append(event)
                self._bytes += len(event.message.value or b"")
            elif self._due():
                return

    def take(self) -> dict[TP, list[Any]]:
        """The events of a batch; they stay here until `done`."""
        batch, room, room_bytes = dict[TP, list[Any]](), self._size, MAX_BUFFERED_BYTES // 2
        for tp in self._due():
            batch[tp] = _first(self._held[tp], room, room_bytes)
            room -= len(batch[tp])
            room_bytes -= sum(len(event.message.value or b"") for event in batch[tp])
            if room <= 0 or room_bytes <= 0:
                break
        return batch

    def done(self, tp: TP, count: int, backoff_s: float) -> None:
        """The first `count` events of a partition are finished; the rest may be tried after `backoff_s`."""
        held = self._held.get(tp)
        if held is None:
            return  # cleared meanwhile
        for _ in range(count):
            self._bytes -= len(held.popleft().message.value or b"")
        if not held:
            del self._held[tp]
        self._aside.discard(tp)
        if backoff_s:
            self._ready_at[tp] = time.monotonic() + backoff_s
        else:
            self._ready_at.pop(tp, None)

    def put_aside(self, tp: TP) -> None:
        """It is the turn of another topic, whose events may still be on their way: these take no room meanwhile."""
        self.done(tp, 0, WAIT_FOR_TOPIC_S)
        self._aside.add(tp)

    def waits(self, tp: TP) -> bool:
        """Whether a partition backs off."""
        return self._ready_at.get(tp, 0.0) > time.monotonic()

    def _due(self) -> list[TP]:
        return [tp for tp in self._held if not self.waits(tp)]

    def _room(self) -> bool:
        held = [events for tp, events in self._held.items() if tp not in self._aside]
        return sum(map(len, held)) < 2 * self._size and self._bytes < MAX_BUFFERED_BYTES

    async def _arrival(self) -> Any:
        """The next event; None when a back-off ends first."""
        assert self._arriving is not None, "open first"
        if self._next is None and (not self._held or not self._queue.empty()):
            return await anext(self._arriving)
        ends = [self._ready_at[tp] for tp in self._held if tp in self._ready_at]
        timeout = max(0.0, min(ends) - time.monotonic()) if ends else None
        if self._next is None and not self._room():
            await asyncio.sleep(timeout or 0.01)
            return None
        self._next = self._next or asyncio.ensure_future(anext(self._arriving))
        await asyncio.wait([self._next], timeout=timeout)
        if not self._next.done():
            return None
        arrived, self._next = self._next, None
        return arrived.result()


def _first(events: Iterable[Any], most: int, most_bytes: int) -> list[Any]:
    """The first events within both bounds, one at least."""
    taken: list[Any] = []
    for event in events:
        most_bytes -= len(event.message.value or b"")
        if taken and (len(taken) >= most or most_bytes < 0):
            break
        taken.append(event)
    return taken
