"""Reads the records of a loop as one log: from its topic what that still holds, from the archive what was before."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator
from typing import Protocol

from everloop_archive.reader.merged import Batch
from everloop_schemas.envelope import Event, Topic
from everloop_shared.messaging.processing.records import decode_events
from everloop_shared.messaging.routes import LogReader, Partition, Position, Record


class Archive(Protocol):
    """The archived records of all loops. Methods block: they are called in a thread.

    They raise Unavailable where the store cannot be reached, ArchiveCorrupt where what it holds cannot be read.
    """

    def bounds(self, topic: Topic, loop: str, partition: int, needed: int) -> tuple[int, int]:
        """The first offset from which on every record of the loop is archived, and the offset that comes next.

        The store is asked again unless the last answer reached the offset `needed`. Both are 0 where nothing is.
        """

    def records(self, topic: Topic, loop: str, partition: int, start: int) -> Iterator[Batch]:
        """The archived records from the offset `start` on, in order, as far as `bounds` has told."""


class ArchivedLog:
    """Implements `routes.LogReader` for the records of one loop, and for one reader, which mostly reads on.

    The topic counts wherever it has a record. Where the archive does not reach up to the topic's beginning, records
    between the two are lost: then what is before that is not read.
    """

    def __init__(self, log: LogReader, archive: Archive, loop: str) -> None:
        self._log, self._archive, self._loop = log, archive, loop
        self._begins: dict[Partition, int] = {}
        self._readers: dict[Partition, _ForwardReader] = {}

    def partition_for(self, topic: Topic, key: bytes) -> int:
        """The partition a key goes to."""
        return self._log.partition_for(topic, key)

    async def end_offset(self, topic: Topic, partition: int) -> int:
        """The offset the next record will get."""
        return await self._log.end_offset(topic, partition)

    async def begin_offset(self, topic: Topic, partition: int) -> int:
        """The offset from which on all records of the loop can be read."""
        begin = await self._log_begin(topic, partition)
        if begin == 0:
            return 0
        first, following = await asyncio.to_thread(self._archive.bounds, topic, self._loop, partition, begin)
        return first if first < begin <= following else begin

    async def read(self, topic: Topic, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """The records of the loop with start <= offset < stop, in order; among those on the topic, others too."""
        found, known = list[tuple[Position, Event]](), self._begins.get((topic.name, partition))
        begin = await self._log_begin(topic, partition) if known is None else known
        while start < stop:
            if start < begin:
                upto = min(begin, stop)
                found += await self._read_archive(topic, partition, start, upto)
                start = upto
                continue
            on_topic = await self._log.read(topic, partition, start, stop)
            begin = await self._log_begin(topic, partition)
            if begin <= start:  # else retention may have deleted some before they were read
                return found + on_topic
        return found

    async def _read_archive(self, topic: Topic, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        key = (topic.name, partition)
        reader = self._readers.get(key)
        if reader is None or reader.next_offset != start:
            await asyncio.to_thread(self._archive.bounds, topic, self._loop, partition, stop)
            reader = _ForwardReader(self._archive.records(topic, self._loop, partition, start), start)
            self._readers[key] = reader
        return await asyncio.to_thread(reader.read, topic.name, partition, stop)

    async def _log_begin(self, topic: Topic, partition: int) -> int:
        begin = self._begins[topic.name, partition] = await self._log.begin_offset(topic, partition)
        return begin


class _ForwardReader:
    """Reads archived records on and on, a piece at a time."""

    def __init__(self, batches: Iterator[Batch], start: int) -> None:
        self._batches, self.next_offset = batches, start
        self._left: Batch = ()

    def read(self, topic: str, partition: int, stop: int) -> list[tuple[Position, Event]]:
        """The events before the offset `stop` that were not read yet."""
        found = list[Record]()
        while True:
            upto = bisect_left(self._left, stop, key=lambda record: record.offset)
            found += [
                Record(Position(topic, partition, offset, ms, len(value)), None, value)
                for offset, ms, value in self._left[:upto]
            ]
            self._left = self._left[upto:]
            if self._left or (following := next(self._batches, None)) is None:
                self.next_offset = stop
                return decode_events(found)
            self._left = following
