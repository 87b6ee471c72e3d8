"""Records that Faust has fetched and that are not handled yet, per partition."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from faust.types import TP

from everloop_shared.messaging.routes import Record

WAIT_FOR_TOPIC_S = 0.02
"""How long a partition waits for the topic that has to be handled before it."""
MAX_BUFFERED_BYTES = 16_000_000
"""Beyond it nothing more is fetched of the partitions that have records here; half of it makes a batch."""


class RecordBuffer:
    """Buffers records in order per partition.

    With two batches in it, or `MAX_BUFFERED_BYTES`, it is full: then nothing is fetched of the partitions that it has
    records of. The records of a partition that backs off stay here while the others go on.
    """

    def __init__(self, batch_size: int) -> None:
        self._size = batch_size
        self._records: dict[TP, deque[Record]] = {}
        self._bytes = 0
        self._ready_at: dict[TP, float] = {}
        self._aside: set[TP] = set()
        self._changed = asyncio.Event()
        self._closed = True

    def open(self) -> None:
        """Drop all records, and take those that arrive from now on."""
        self._clear()
        self._closed = False

    def close(self) -> None:
        """Drop all records, and those that arrive later as well.

        After a revocation, a late record would otherwise be handled before the earlier ones, which are consumed again
        from the commit.
        """
        self._clear()
        self._closed = True

    def _clear(self) -> None:
        self._records.clear()
        self._bytes = 0
        self._ready_at.clear()
        self._aside.clear()
        self._changed.set()

    def add(self, tp: TP, records: Sequence[Record]) -> bool:
        """Append records of a partition, in order; False where they are dropped."""
        if self._closed:
            return False
        self._records.setdefault(tp, deque()).extend(records)
        self._bytes += sum(record.at.size for record in records)
        self._changed.set()
        return True

    def is_full_for(self, tp: TP) -> bool:
        """Whether no more of a partition is to be fetched: it has records here, and the buffer is full."""
        return tp in self._records and not self._has_room()

    async def wait(self) -> None:
        """Wait until there are records of a partition that does not back off."""
        while not self._ready():
            self._changed.clear()
            ends = [self._ready_at[tp] for tp in self._records if tp in self._ready_at]
            timeout = max(0.0, min(ends) - time.monotonic()) if ends else None
            try:
                await asyncio.wait_for(self._changed.wait(), timeout)
            except TimeoutError:
                continue

    async def gather(self, topics: Collection[str], within_s: float) -> None:
        """While there are records of these topics only, wait for more of them, but not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._has_room() and all(tp.topic in topics for tp in self._records):
                    self._changed.clear()
                    await self._changed.wait()

    def take(self) -> dict[TP, list[Record]]:
        """The records of a batch; they stay buffered until `done`."""
        batch, records_left, bytes_left = dict[TP, list[Record]](), self._size, MAX_BUFFERED_BYTES // 2
        for tp in self._ready():
            batch[tp] = _first(self._records[tp], records_left, bytes_left)
            records_left -= len(batch[tp])
            bytes_left -= sum(record.at.size for record in batch[tp])
            if records_left <= 0 or bytes_left <= 0:
                break
        return batch

    def done(self, tp: TP, count: int, backoff_s: float) -> None:
        """Remove the first `count` records of a partition; the rest may be taken after `backoff_s`."""
        records = self._records.get(tp)
        if records is None:
            return  # cleared meanwhile
        for _ in range(count):
            self._bytes -= records.popleft().at.size
        if not records:
            del self._records[tp]
        self._aside.discard(tp)
        if backoff_s:
            self._ready_at[tp] = time.monotonic() + backoff_s
        else:
            self._ready_at.pop(tp, None)

    def put_aside(self, tp: TP) -> None:
        """Another topic has to be handled first, whose records may not be here yet: do not count these meanwhile."""
        self.done(tp, 0, WAIT_FOR_TOPIC_S)
        self._aside.add(tp)

    def waits(self, tp: TP) -> bool:
        """Whether a partition backs off."""
        return self._ready_at.get(tp, 0.0) > time.monotonic()

    def _ready(self) -> list[TP]:
        return [tp for tp in self._records if not self.waits(tp)]

    def _has_room(self) -> bool:
        counted = [records for tp, records in self._records.items() if tp not in self._aside]
        return sum(map(len, counted)) < 2 * self._size and self._bytes < MAX_BUFFERED_BYTES


def _first(records: Iterable[Record], most: int, most_bytes: int) -> list[Record]:
    """The first records within both limits, at least one."""
    taken: list[Record] = []
    for record in records:
        most_bytes -= record.at.size
        if taken and (len(taken) >= most or most_bytes < 0):
            break
        taken.append(record)
    return taken
