"""Archives the partitions that this replica learns from, and flushes by rows, memory, time, and at a stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial

from everloop_archive.buffers import TableBuffer
from everloop_archive.errors import ArchiveUnavailable
from everloop_archive.layout import KINDS, Kind
from everloop_archive.stores import ArchiveStore
from everloop_learning.loops import KnownLoops
from everloop_shared.backoff import Backoff
from everloop_shared.errors import Misconfigured, ServiceError, Unavailable
from everloop_shared.file_systems import without_credentials
from everloop_shared.messaging.routes import Engine, connected
from everloop_shared.tasks import cancel_all
from everloop_training.adapters.archive.failures import ArchiveFailures
from everloop_training.adapters.archive.partition import PartitionArchive
from everloop_training.adapters.archive.tables import THREADS, ArchiveTables
from everloop_training.metrics import ARCHIVE_BEHIND, ARCHIVE_BUFFERED, ARCHIVE_BYTES, ARCHIVE_ROWS
from everloop_training.settings import TrainingSettings

log = logging.getLogger(__name__)
IDLE_S = 1.0
"""The interval in which a partition that was read to its end is read again, and buffers are looked through."""
DRAIN_WITHIN_S = 6.0
BACKOFF = Backoff(first_s=0.5, longest_s=30.0)
Place = tuple[Kind, int]


class Archiver:
    """Reads the topics of outcomes and predictions without a group: the archive itself holds the positions.

    It archives the partitions that `assigned` gives. Where two archive the same one for a while, each record is
    archived once all the same. Whatever fails is tried again without end; learning does not wait for it.
    """

    def __init__(
        self, settings: TrainingSettings, loops: KnownLoops, engine: Engine, assigned: Callable[[], Collection[int]]
    ) -> None:
        self._settings, self._engine, self._assigned = settings, engine, assigned
        self._tables = ArchiveTables(open_store(settings.archive), loops)
        self.partitions: dict[Place, PartitionArchive] = {}
        self._following: dict[Place, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._failures = {kind: ArchiveFailures(kind) for kind in KINDS}
        for kind in KINDS:
            ARCHIVE_BEHIND.labels(kind).set_function(partial(self._behind_s, kind))
            ARCHIVE_BUFFERED.labels(kind).set_function(partial(self._buffered, kind))

    def remarks(self) -> list[str]:
        """What people should know: since when the archive cannot be written, and why."""
        return [remark for failures in self._failures.values() if (remark := failures.remark())]

    async def run(self) -> None:
        """Archive until cancelled; then write what was read, for a few seconds at most."""
        async with connected(self._engine):
            flushing = asyncio.create_task(self._flush_when_due())
            try:
                while not flushing.done():
                    self._follow_assigned()
                    await asyncio.sleep(IDLE_S)
                flushing.result()
            finally:
                self._stopping.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_WITHIN_S):
                        await asyncio.gather(flushing, *self._following.values())
                        await self._flush(self._all_buffers())
                await cancel_all([flushing, *self._following.values()])
                self._tables.close()

    def _follow_assigned(self) -> None:
        wanted = {(kind, partition) for kind in KINDS for partition in self._assigned()}
        for place in self._following.keys() - wanted:
            self._following.pop(place).cancel()
            del self.partitions[place]
            self._failures[place[0]].clear(place)
        for kind, partition in wanted - self._following.keys():
            archive = PartitionArchive(self._tables, self._engine, kind, partition)
            self.partitions[kind, partition] = archive
            self._following[kind, partition] = asyncio.create_task(self._follow(archive))

    async def _follow(self, archive: PartitionArchive) -> None:
        """Read a partition on, while there is room in the memory."""
        place, failures = (archive.kind, archive.partition), self._failures[archive.kind]
        pauses = BACKOFF.pauses()
        while not self._stopping.is_set():
            pause_s = IDLE_S
            try:
                if archive.next_offset is None:
                    await archive.open()
                if self._buffered() < self._settings.archive_bytes and await archive.read():
                    pause_s = 0.0
                pauses = BACKOFF.pauses()
                failures.clear(place)
            except Exception as e:
                pause_s = next(pauses)
                if not isinstance(e, Unavailable) or isinstance(e, ArchiveUnavailable):  # else Kafka is away
                    failures.record(place, e)
            await self._pause(pause_s)

    async def _flush_when_due(self) -> None:
        pauses = BACKOFF.pauses()
        while not self._stopping.is_set():
            done = await self._flush(self._due())
            pauses = BACKOFF.pauses() if done else pauses
            await self._pause(IDLE_S if done else next(pauses))

    async def _flush(self, buffers: Collection[tuple[PartitionArchive, TableBuffer]]) -> bool:
        """Write these buffers, some tables at once, then the positions that follow; whether all went well."""
        slots = asyncio.Semaphore(THREADS)
        done = await asyncio.gather(*(self._write(archive, buffer, slots) for archive, buffer in buffers))
        for archive in list(self.partitions.values()):
            doing, failures = ("position", archive.partition), self._failures[archive.kind]
            try:
                await archive.write_range()
                failures.clear(doing)
            except ServiceError as e:
                failures.record(doing, e)
                return False
        return all(done)

    async def _write(self, archive: PartitionArchive, buffer: TableBuffer, slots: asyncio.Semaphore) -> bool:
        kind, doing = archive.kind, (buffer.writer.table, archive.partition)
        async with slots:
            try:
                written = await archive.write(buffer)
            except Exception as e:
                self._failures[kind].record(doing, e)
                return False
        self._failures[kind].clear(doing)
        if written is not None:
            ARCHIVE_ROWS.labels(kind).inc(written.rows)
            ARCHIVE_BYTES.labels(kind).inc(written.size)
        return True

    def _due(self) -> list[tuple[PartitionArchive, TableBuffer]]:
        """The buffers that are full or old, and the largest ones where all together fill half of the memory.

        What is being written needs memory once more, so that the limit holds for both.
        """
        rows, before = self._settings.archive_rows, time.monotonic() - self._settings.archive_seconds
        left, due = self._buffered(), []
        for archive, buffer in sorted(self._all_buffers(), key=lambda pair: -pair[1].size):
            full = left >= self._settings.archive_bytes / 2 or buffer.rows >= rows
            if full or buffer.since <= before or buffer.is_taken:
                due.append((archive, buffer))
                left -= buffer.size
        return due

    def _all_buffers(self) -> list[tuple[PartitionArchive, TableBuffer]]:
        archives = self.partitions.values()
        return [(archive, buffer) for archive in archives for buffer in archive.buffers if buffer.rows]

    def _buffered(self, kind: Kind | None = None) -> int:
        return sum(buffer.size for archive, buffer in self._all_buffers() if kind in (None, archive.kind))

    def _behind_s(self, kind: Kind) -> float:
        oldest = [archive.oldest_ms for (of_kind, _), archive in self.partitions.items() if of_kind == kind]
        read = [ms for ms in oldest if ms is not None]
        return max(0.0, time.time() - min(read) / 1000) if read else 0.0

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


def open_store(url: str) -> ArchiveStore:
    """The store that EVERLOOP_ARCHIVE names; raises Misconfigured, which says what to change."""
    try:
        return ArchiveStore(url)
    except (ValueError, ImportError) as e:
        raise Misconfigured(f"EVERLOOP_ARCHIVE: {without_credentials(url)!r:.200} cannot be used: {e}") from e
