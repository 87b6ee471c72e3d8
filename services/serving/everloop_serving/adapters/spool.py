"""The local spool: append-only files with the records of REST predictions that are not published yet."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import crc32

from everloop_schemas.catalogue import decode
from everloop_schemas.envelope import Event
from everloop_serving.adapters.segments import pack, records, segment_numbers, segment_path, unpack, whole_length
from everloop_serving.adapters.spool_tail import SpoolPosition, SpoolTail
from everloop_serving.errors import RecordTooLarge, SpoolFull, SpoolUnwritable
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.routes import EncodedEvent, encode

log = logging.getLogger(__name__)
POSITION = struct.Struct(">QQ")
READ_BYTES = 4_000_000
"""Published at once, at most: the broker's acks cost the same time for few records and for many."""
TAIL_BYTES = 8_000_000
"""Bytes of the latest records that stay in memory until they are delivered, so that nobody reads them back."""


class DiskSpool:
    """An append-only log in `folder`, read in order by one reader, its segments deleted once delivered.

    A record is written to the operating system before `append` returns: it survives `kill -9`. Whether it survives a
    power loss depends on `fsync`: `always` syncs before each answer (requests that wait share one sync),
    `interval` every `fsync_interval_s`, `none` leaves it to the system. One process at a time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit: int,
        segment_bytes: int,
        event_bytes: int = 1_000_000,
        fsync: str = "none",
        fsync_interval_s: float = 1.0,
    ) -> None:
        self._folder, self._limit, self._segment_bytes, self._event_bytes = folder, limit, segment_bytes, event_bytes
        self._fsync, self._fsync_interval_s = fsync, fsync_interval_s
        self.syncs_each = fsync == "always"
        self._lock = self._file = self._reader = self._position_file = -1
        self._end = self._next = SpoolPosition(0, 0)
        self._tail = SpoolTail(TAIL_BYTES)
        self._written = self._synced = 0
        self._syncing = asyncio.Lock()
        self._syncer: asyncio.Task[None] | None = None
        self.appended = asyncio.Event()
        self.bytes = self.record_count = 0

    async def __aenter__(self) -> Self:
        try:
            self._open()
        except OSError as e:
            raise Misconfigured(f"EVERLOOP_DATA: cannot use {self._folder}: {e.strerror or e}") from e
        if self._fsync == "interval":
            self._syncer = asyncio.create_task(self._sync_often())
        return self

    async def __aexit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._syncer:
            self._syncer.cancel()
        if self._file >= 0 and self._fsync != "none":
            os.fsync(self._file)
        for descriptor in (self._file, self._reader, self._position_file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._file = self._reader = self._position_file = -1

    def append(self, events: Sequence[Event]) -> None:
        """Store the events as one record, or raise SpoolFull, SpoolUnwritable or RecordTooLarge and store nothing."""
        encoded = [encode(event) for event in events]
        if (largest := max(len(value) for _, _, value in encoded)) > self._event_bytes:
            raise RecordTooLarge(f"the record would have {largest:,} bytes, {self._event_bytes:,} may be sent")
        record = pack(encoded)
        if self.bytes + len(record) > self._limit:
            raise SpoolFull(f"{self.bytes:,} bytes of predictions wait for the broker, and no more may; retry later")
        try:
            self._write(record)
        except OSError as e:
            why = "the disk is full" if e.errno in (errno.ENOSPC, errno.EDQUOT) else e.strerror or str(e)
            raise SpoolUnwritable(f"the prediction cannot be stored: {why}") from e
        self._tail.add(self._end, len(record), encoded)
        self.bytes += len(record)
        self.record_count += 1
        self.appended.set()

    async def synced(self) -> None:
        """With `always`, wait until what was appended so far is on the disk; it stays stored where that fails."""
        if self.syncs_each:
            try:
                await self._sync(self._written)
            except OSError as e:
                raise SpoolUnwritable(f"the prediction cannot be synced to disk: {e.strerror or e}") from e

    def next(self) -> tuple[list[Sequence[EncodedEvent]], SpoolPosition]:
        """The next undelivered records, oldest first, and the position after them; none when all are delivered."""
        if self._next == self._end:
            return [], self._end
        if self._tail.start == self._next:
            return self._tail.first(READ_BYTES)
        while True:
            batch, position = self._batch()
            if batch or position.segment >= self._end.segment:
                return batch, position
            self._skip_rest(position)

    def advance(self, position: SpoolPosition, delivered: int) -> None:
        """Everything before `position`, `delivered` records, is published and not read again."""
        before, self._next = self._next, position
        self._tail.drop(position)
        self.record_count = max(0, self.record_count - delivered)
        if position.segment == before.segment:
            self.bytes -= position.offset - before.offset
        else:
            self._close_reader()
            self._delete_delivered()
            self.bytes = self._bytes_left()
        body = POSITION.pack(position.segment, position.offset)
        os.pwrite(self._position_file, body + crc32(body).to_bytes(4, "big"), 0)

    def undelivered(self) -> Iterator[Event]:
        """Every event that is not published yet, oldest first."""
        return self._decoded(self._next)

    def stored(self) -> Iterator[Event]:
        """Every event that is on the disk still, published or not, oldest first."""
        return self._decoded(SpoolPosition(0, 0))

    def _decoded(self, since: SpoolPosition) -> Iterator[Event]:
        for payload in self._records(since):
            try:
                yield from [decode(topic, value) for topic, _, value in _events(payload)]
            except ValueError as e:
                log.error("spool: an unreadable event is not remembered", extra={"reason": str(e)[:500]})

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise Misconfigured(f"{self._folder} is in use by another serving process") from e
        self._position_file = os.open(self._folder / "position", os.O_RDWR | os.O_CREAT, 0o600)
        numbers = segment_numbers(self._folder) or [0]
        self._next = max(self._load_position(), SpoolPosition(numbers[0], 0))
        self._delete_delivered()
        self._start_segment(max(numbers[-1], self._next.segment))
        self._cut_torn_record()
        self._next = min(self._next, self._end)
        self.bytes, self.record_count = self._bytes_left(), sum(1 for _ in self._records(self._next))
        if self.record_count:
            self.appended.set()

    def _delete_delivered(self) -> None:
        for number in segment_numbers(self._folder):
            if number < self._next.segment:
                segment_path(self._folder, number).unlink(missing_ok=True)

    def _skip_rest(self, position: SpoolPosition) -> None:
        """Continue with the next segment; the rest of this one, if there is any, cannot be read."""
        path = segment_path(self._folder, position.segment)
        if path.exists() and path.stat().st_size > position.offset:
            log.error("spool: a file is damaged, its rest is left out", extra={"file": str(path)})
            self._close_reader()
            path.replace(path.with_suffix(".torn"))
        following = next(n for n in segment_numbers(self._folder) if n > position.segment)
        self.advance(SpoolPosition(following, 0), 0)

    def _load_position(self) -> SpoolPosition:
        body = os.pread(self._position_file, POSITION.size + 4, 0)
        head, tail = body[: POSITION.size], body[POSITION.size :]
        if len(body) < POSITION.size + 4 or crc32(head).to_bytes(4, "big") != tail:
            return SpoolPosition(0, 0)  # nothing delivered yet, or the position is lost: delivering again is safe
        return SpoolPosition(*POSITION.unpack(head))

    def _start_segment(self, number: int) -> None:
        if self._file >= 0:
            if self._fsync != "none":
                os.fsync(self._file)
            os.close(self._file)
        path = segment_path(self._folder, number)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._end = SpoolPosition(number, os.fstat(self._file).st_size)

    def _cut_torn_record(self) -> None:
        """Cut off a last record that a crash left incomplete; what is cut off is stored beside the segment."""
        path = segment_path(self._folder, self._end.segment)
        data = path.read_bytes()
        good = whole_length(data)
        if good == len(data):
            return
        log.warning("spool: incomplete record cut off", extra={"file": str(path), "bytes": len(data) - good})
        path.with_suffix(".torn").write_bytes(data[good:])
        os.ftruncate(self._file, good)
        self._end = SpoolPosition(self._end.segment, good)

    def _write(self, record: bytes) -> None:
        if self._end.offset and self._end.offset + len(record) > self._segment_bytes:
            self._start_segment(self._end.segment + 1)
        done = 0
        try:
            while done < len(record):
                done += os.write(self._file, record[done:])
        except OSError:
            os.ftruncate(self._file, self._end.offset)
            raise
        self._end = SpoolPosition(self._end.segment, self._end.offset + len(record))
        self._written += len(record)

    async def _sync(self, until: int) -> None:
        async with self._syncing:
            if self._synced >= until:
                return
            target, descriptor = self._written, os.dup(self._file)  # a new segment may close the file meanwhile
            try:
                await asyncio.to_thread(os.fsync, descriptor)
            finally:
                os.close(descriptor)
            self._synced = target

    async def _sync_often(self) -> None:
        while True:
            await asyncio.sleep(self._fsync_interval_s)
            try:
                await self._sync(self._written)
            except OSError as e:
                log.error("spool: fsync failed", extra={"reason": str(e)})

    def _batch(self) -> tuple[list[Sequence[EncodedEvent]], SpoolPosition]:
        batch: list[Sequence[EncodedEvent]] = []
        position = self._next
        for end, payload in self._payloads():
            position = SpoolPosition(position.segment, end)
            batch.append(_events(payload))
        return batch, position

    def _payloads(self) -> Iterator[tuple[int, bytes]]:
        start = self._next.offset
        try:
            if self._reader < 0:
                self._reader = os.open(segment_path(self._folder, self._next.segment), os.O_RDONLY)
            data = os.pread(self._reader, READ_BYTES, start)
            found = list(records(data))
            if not found and len(data) == READ_BYTES:  # one record larger than a read
                found = list(records(os.pread(self._reader, os.fstat(self._reader).st_size - start, start)))
        except FileNotFoundError:
            return
        yield from ((start + end, payload) for end, payload in found)

    def _close_reader(self) -> None:
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1

    def _records(self, since: SpoolPosition) -> Iterator[bytes]:
        for number in segment_numbers(self._folder):
            start = since.offset if number == since.segment else 0
            for _, payload in records(segment_path(self._folder, number).read_bytes(), start):
                yield payload

    def _bytes_left(self) -> int:
        sizes = (segment_path(self._folder, n).stat().st_size for n in segment_numbers(self._folder))
        return max(0, sum(sizes) - self._next.offset)


def _events(payload: bytes) -> list[EncodedEvent]:
    try:
        return unpack(payload)
    except ValueError as e:
        log.error("spool: an unreadable record is left out", extra={"reason": str(e)[:500]})
        return []
