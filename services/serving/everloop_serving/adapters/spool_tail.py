"""The latest records of the spool, in memory beside the disk: what is delivered soon is not read back."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from everloop_shared.messaging.routes import EncodedEvent


class SpoolPosition(NamedTuple):
    """A position in the spool: a byte of a segment. Later ones are greater."""

    segment: int
    offset: int


class SpoolTail:
    """Records without a gap, from `start` to the end of the spool; none at all once they have more than `limit` bytes.

    Then the disk has them, and the tail begins anew with the next record.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._records: deque[tuple[SpoolPosition, SpoolPosition, Sequence[EncodedEvent]]] = deque()

    @property
    def start(self) -> SpoolPosition | None:
        """Where the first record lies; None where there is none."""
        return self._records[0][0] if self._records else None

    def add(self, end: SpoolPosition, size: int, events: Sequence[EncodedEvent]) -> None:
        """Add the record of `size` bytes that was just written, and after which the spool ends at `end`."""
        if self._bytes + size > self._limit:
            self._records.clear()
            self._bytes = 0
        self._records.append((SpoolPosition(end.segment, end.offset - size), end, events))
        self._bytes += size

    def first(self, size: int) -> tuple[list[Sequence[EncodedEvent]], SpoolPosition]:
        """The first records, of one segment and of about `size` bytes, and the position after them."""
        start, position, events = self._records[0]
        batch = [events]
        for begin, end, events in islice(self._records, 1, None):
            if begin.segment != start.segment or end.offset - start.offset > size:
                break
            batch.append(events)
            position = end
        return batch, position

    def drop(self, position: SpoolPosition) -> None:
        """Drop what lies before a position: it is delivered."""
        while self._records and self._records[0][1] <= position:
            start, end, _ = self._records.popleft()
            self._bytes -= end.offset - start.offset
