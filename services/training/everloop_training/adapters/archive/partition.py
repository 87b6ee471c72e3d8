"""Archives one partition of one topic: reads on from the archive's position, and gathers each loop's records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import cast

from everloop_archive.arrays import ArchivedRecord
from everloop_archive.buffers import TableBuffer
from everloop_archive.errors import ArchiveCorrupt, PositionMoved
from everloop_archive.layout import KINDS, Kind
from everloop_archive.positions import ArchivedRange, read_range, write_range
from everloop_archive.table_writer import Written
from everloop_archive.unfinished import remove_unfinished
from everloop_schemas.catalogue import decode
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.names import is_loop_name
from everloop_schemas.serving import PredictionMade
from everloop_shared.messaging.routes import Record, RecordReader
from everloop_training.adapters.archive.tables import ArchiveTables
from everloop_training.adapters.log_pieces import next_count
from everloop_training.metrics import ARCHIVE_LEFT_OUT, ARCHIVE_LOST

log = logging.getLogger(__name__)
FIRST_OFFSETS = 100


class PartitionArchive:
    """The archive of one partition. `next_offset` is the next one to read, None while it has to be opened."""

    def __init__(self, tables: ArchiveTables, log: RecordReader, kind: Kind, partition: int) -> None:
        self.kind, self.partition = kind, partition
        self.next_offset: int | None = None
        self._tables, self._log, self._topic = tables, log, KINDS[kind]
        self._buffers: dict[str, TableBuffer] = {}
        self._range = ArchivedRange(0, 0)
        self._offsets = FIRST_OFFSETS
        self._changing = asyncio.Lock()
        self._cleaned = False

    @property
    def buffers(self) -> Iterable[TableBuffer]:
        """The buffers of all loops that have had a record here."""
        return self._buffers.values()

    @property
    def oldest_ms(self) -> int | None:
        """The broker's time of the oldest record that was read and is not archived."""
        return min((buffer.oldest[1] for buffer in self.buffers if buffer.oldest), default=None)

    async def open(self) -> None:
        """Find out where to go on. Raises ArchiveUnavailable and Unavailable."""
        store, kind, partition = self._tables.store, self.kind, self.partition
        if not self._cleaned:
            if removed := await self._tables.in_thread(remove_unfinished, store, kind, partition):
                log.warning("unfinished files removed", extra={"topic": self._topic.name, "files": removed})
            self._cleaned = True
        stored = await self._tables.in_thread(read_range, store, kind, partition)
        begin = await self._log.begin_offset(self._topic, partition)
        end = await self._log.end_offset(self._topic, partition)
        self._range = stored or ArchivedRange(begin, begin)
        if self._range.next > end:
            raise ArchiveCorrupt(
                f"the archive at {store.url} continues at offset {self._range.next} of {self._topic.name}/{partition}, "
                f"which ends at {end}: it belongs to another cluster; set EVERLOOP_ARCHIVE to another place"
            )
        async with self._changing:
            self._buffers = {}
            self.next_offset = self._range.next

    async def read(self) -> bool:
        """Read the next piece of the log into the buffers; False where there is nothing more to read now."""
        start = self.next_offset
        end = await self._log.end_offset(self._topic, self.partition)
        if start is None or start >= end:
            return False
        stop = min(start + self._offsets, end)
        records = await self._log.read_records(self._topic, self.partition, start, stop)
        if not records or records[0].at.offset > start:
            await self._note_gap(start)
        async with self._changing:
            if self.next_offset != start:  # opened again meanwhile
                return True
            await self._tables.in_thread(self._gather, records)
            self.next_offset = stop
        self._offsets = next_count(self._offsets, len(records), sum(record.at.size for record in records))
        return True

    async def write(self, buffer: TableBuffer) -> Written | None:
        """Write what a buffer holds. After ArchiveUnavailable it holds the same, and more may be added.

        None where another writer has been here: then the partition has to be opened again.
        """
        async with self._changing:
            records = await self._tables.in_thread(buffer.take, self._tables.types(buffer.writer.table.loop))
        if records is None:
            return Written(0, 0, 0)
        try:
            written = await self._tables.in_thread(buffer.writer.write, records)
        except PositionMoved as e:
            log.warning("another writer archives this partition, reading again", extra={"reason": str(e)})
            self.next_offset = None
            return None
        async with self._changing:
            buffer.written()
        return written

    async def write_range(self) -> None:
        """Store how far the partition is archived, once the tables have it."""
        if self.next_offset is None:
            return
        oldest = [buffer.oldest[0] for buffer in self.buffers if buffer.oldest]
        archived = self._range._replace(next=min([self.next_offset, *oldest]))
        if archived != self._range:
            await self._tables.in_thread(write_range, self._tables.store, self.kind, self.partition, archived)
            self._range = archived

    async def _note_gap(self, start: int) -> None:
        begin = await self._log.begin_offset(self._topic, self.partition)
        if begin > start:
            log.error("records were deleted before they were archived", extra={"from": start, "to": begin})
            ARCHIVE_LOST.labels(self.kind).inc(begin - start)
            self._range = self._range.with_gap(start, begin)

    def _gather(self, records: Sequence[Record]) -> None:
        """Add records to the buffers of their loops; either all or, where the store is away, none."""
        by_loop: dict[str, list[ArchivedRecord]] = {}
        lives: dict[tuple[str, int], int | None] = {}
        for record in records:
            event = _event_in(record)
            if event is None or not (event.loop in by_loop or is_loop_name(event.loop)):
                ARCHIVE_LEFT_OUT.labels(self.kind).inc()
                continue
            of = (event.loop, event.revision)
            if of not in lives:
                lives[of] = self._tables.life(*of)
            archived = ArchivedRecord(record.at, event, record.value or b"", lives[of])
            by_loop.setdefault(event.loop, []).append(archived)
        for loop in by_loop.keys() - self._buffers.keys():
            writer = self._tables.table(self.kind, loop)
            writer.open(self.partition)
            self._buffers[loop] = TableBuffer(writer, self.partition)
        for loop, some in by_loop.items():
            position = self._buffers[loop].writer.position(self.partition)
            new = [record for record in some if record.at.offset >= position]
            newest = max(record.event.revision for record in some)
            self._buffers[loop].add(new, self._tables.types(loop, newest))


def _event_in(record: Record) -> OutcomeObserved | PredictionMade | None:
    """The event that a record holds; None for one that no reader of the log gets either."""
    try:
        return cast(OutcomeObserved | PredictionMade, decode(record.at.topic, record.value or b""))
    except (ValueError, RecursionError):
        return None
