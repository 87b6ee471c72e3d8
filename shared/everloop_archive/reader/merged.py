"""Puts the records of several data files into the order of the log, with few of them in memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from everloop_archive.errors import ArchiveCorrupt


class StoredRecord(NamedTuple):
    """A record of the archive: its offset, the broker's time in ms since the epoch, and its value on the log."""

    offset: int
    appended_ms: int
    value: bytes


Batch = Sequence[StoredRecord]
"""Some records, in the order of their offsets."""


class Source(Protocol):
    """A data file, which is opened when its first record is needed."""

    @property
    def name(self) -> str: ...
    @property
    def first(self) -> int:
        """An offset at or before that of its first record."""

    def batches(self) -> Iterator[Batch]:
        """Its records in order, a few thousand at a time; never an empty batch."""


class _Reading(NamedTuple):
    """A source that is being read: a batch of which the record `at` is next, and the batches after it."""

    batch: Batch
    at: int
    name: str
    rest: Iterator[Batch]

    @property
    def next_offset(self) -> int:
        return self.batch[self.at].offset


def merged(sources: Iterable[Source]) -> Generator[Batch, None, None]:
    """The records of all sources in order. A source is open only while its range is read.

    Raises ArchiveCorrupt where two of them hold the same offset, and as the sources do.
    """
    waiting = sorted(sources, key=lambda source: source.first, reverse=True)
    reading, last = list[_Reading](), -1
    while waiting or reading:
        reading.sort(key=lambda one: one.next_offset)
        if waiting and (not reading or waiting[-1].first <= reading[0].next_offset):
            source = waiting.pop()
            reading += _next_batch(source.name, source.batches())
            continue
        lowest = reading.pop(0)
        if lowest.next_offset <= last:
            raise ArchiveCorrupt(f"{lowest.name} holds the record at offset {lowest.next_offset}, as another file does")
        others = [one.next_offset for one in reading[:1]] + [source.first for source in waiting[-1:]]
        upto = len(lowest.batch)
        if others:  # two files that hold the same record are noticed when it is its turn the second time
            upto = max(lowest.at + 1, bisect_left(lowest.batch, min(others), lowest.at, key=lambda r: r.offset))
        yield lowest.batch[lowest.at : upto]
        last = lowest.batch[upto - 1].offset
        if upto < len(lowest.batch):
            reading.append(lowest._replace(at=upto))
        else:
            reading += _next_batch(lowest.name, lowest.rest)


def _next_batch(name: str, rest: Iterator[Batch]) -> list[_Reading]:
    """The source with its next batch; nothing where it has ended."""
    found = next(rest, None)
    return [] if found is None else [_Reading(found, 0, name, rest)]
