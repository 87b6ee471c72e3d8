"""The local spool: append-only files that keep REST predictions until the bus has them."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import crc32

from everloop_schemas.envelope import Event
from everloop_serving.adapters.segments import pack, records, segment_path, segments, unpack, whole
from everloop_serving.errors import RecordTooLarge, SpoolFull, SpoolUnwritable
from everloop_shared.errors import Misconfigured

log = logging.getLogger(__name__)
_POSITION = struct.Struct(">QQ")
READ_BYTES = 1_000_000


@dataclass(frozen=True, order=True)
class Mark:
    """A place in the spool: a byte of a segment."""

    segment: int
    offset: int


class DiskSpool:
    """An append-only log in `folder`, read in order by one reader, its segments deleted once delivered.

    A record is handed to the operating system before `append` returns: it survives `kill -9`. What it takes to
    survive a power loss is `fsync`: `always` syncs before each answer (requests that wait share one sync),
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
        self._lock = self._file = self._place = -1
        self._end = self._read = Mark(0, 0)
        self._written = self._synced = 0
        self._syncing = asyncio.Lock()
        self._syncer: asyncio.Task[None] | None = None
        self.grown = asyncio.Event()
        self.bytes = self.depth = 0

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
        for descriptor in (self._file, self._place, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._file = self._place = -1

    def append(self, events: Sequence[Event]) -> None:
        """Keep the events as one record; raises SpoolFull, SpoolUnwritable or RecordTooLarge, and keeps nothing."""
        encoded = [event.encode() for event in events]
        if (largest := max(map(len, encoded))) > self._event_bytes:
            raise RecordTooLarge(f"the record would have {largest:,} bytes, {self._event_bytes:,} may be sent")
        record = pack(encoded)
        if self.bytes + len(record) > self._limit:
            raise SpoolFull(f"the bus has been away for {self.bytes:,} bytes of predictions; try again later")
        try:
            self._write(record)
        except OSError as e:
            why = "the disk is full" if e.errno in (errno.ENOSPC, errno.EDQUOT) else e.strerror or str(e)
            raise SpoolUnwritable(f"the prediction cannot be kept: {why}") from e
        self.bytes += len(record)
        self.depth += 1
        self.grown.set()

    async def synced(self) -> None:
        """With `always`, wait until what was appended so far is on the disk; it stays kept where that fails."""
        if self._fsync == "always":
            try:
                await self._sync(self._written)
            except OSError as e:
                raise SpoolUnwritable(f"the prediction cannot be synced to disk: {e.strerror or e}") from e

    def next(self) -> tuple[list[list[Event]], Mark]:
        """The next undelivered records, oldest first, and the mark behind them; none when all is delivered."""
        while True:
            batch, mark = self._batch()
            if batch or mark.segment >= self._end.segment:
                return batch, mark
            self._leave(mark)

    def advance(self, mark: Mark, delivered: int) -> None:
        """Everything before `mark`, `delivered` records, is on the bus: never read it again."""
        self._read = mark
        self._clear()
        self.depth = max(0, self.depth - delivered)
        self.bytes = self._pending()
        body = _POSITION.pack(mark.segment, mark.offset)
        os.pwrite(self._place, body + crc32(body).to_bytes(4, "big"), 0)

    def undelivered(self) -> Iterator[Event]:
        """Every event still here, oldest first: what this process promised in its last life."""
        for payload in self._undelivered_records():
            yield from _events(payload)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise Misconfigured(f"{self._folder} is in use by another serving process") from e
        self._place = os.open(self._folder / "position", os.O_RDWR | os.O_CREAT, 0o600)
        numbers = segments(self._folder) or [0]
        self._read = max(self._saved(), Mark(numbers[0], 0))
        self._clear()
        self._start_segment(max(numbers[-1], self._read.segment))
        self._mend()
        self._read = min(self._read, self._end)
        self.bytes, self.depth = self._pending(), sum(1 for _ in self._undelivered_records())
        if self.depth:
            self.grown.set()

    def _clear(self) -> None:
        for number in segments(self._folder):
            if number < self._read.segment:
                segment_path(self._folder, number).unlink(missing_ok=True)

    def _leave(self, mark: Mark) -> None:
        """Go on with the next segment; what is left of this one, if anything, cannot be read."""
        path = segment_path(self._folder, mark.segment)
        if path.exists() and path.stat().st_size > mark.offset:
            log.error("spool: damaged, the rest of this file is left out", extra={"file": str(path)})
            path.replace(path.with_suffix(".torn"))
        following = next(n for n in segments(self._folder) if n > mark.segment)
        self.advance(Mark(following, 0), 0)

    def _saved(self) -> Mark:
        body = os.pread(self._place, _POSITION.size + 4, 0)
        head, tail = body[: _POSITION.size], body[_POSITION.size :]
        if len(body) < _POSITION.size + 4 or crc32(head).to_bytes(4, "big") != tail:
            return Mark(0, 0)  # nothing delivered yet, or the place was lost: what is sent again is the same
        return Mark(*_POSITION.unpack(head))

    def _start_segment(self, number: int) -> None:
        if self._file >= 0:
            if self._fsync != "none":
                os.fsync(self._file)
            os.close(self._file)
        path = segment_path(self._folder, number)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._end = Mark(number, os.fstat(self._file).st_size)

    def _mend(self) -> None:
        """Cut off a last record that a crash has torn; damage further in is kept beside for a look."""
        path = segment_path(self._folder, self._end.segment)
        data = path.read_bytes()
        good = whole(data)
        if good == len(data):
            return
        log.warning("spool: torn record cut off", extra={"file": str(path), "bytes": len(data) - good})
        path.with_suffix(".torn").write_bytes(data[good:])
        os.ftruncate(self._file, good)
        self._end = Mark(self._end.segment, good)

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
        self._end = Mark(self._end.segment, self._end.offset + len(record))
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

    def _batch(self) -> tuple[list[list[Event]], Mark]:
        batch: list[list[Event]] = []
        mark = self._read
        for end, payload in self._payloads():
            mark = Mark(mark.segment, end)
            batch.append(_events(payload))
        return batch, mark

    def _payloads(self) -> Iterator[tuple[int, bytes]]:
        start = self._read.offset
        try:
            with segment_path(self._folder, self._read.segment).open("rb") as file:
                file.seek(start)
                data = file.read(READ_BYTES)
                found = list(records(data))
                if not found and len(data) == READ_BYTES:
                    found = list(records(data + file.read()))  # one record larger than a read
        except FileNotFoundError:
            return
        yield from ((start + end, payload) for end, payload in found)

    def _undelivered_records(self) -> Iterator[bytes]:
        for number in segments(self._folder):
            start = self._read.offset if number == self._read.segment else 0
            for _, payload in records(segment_path(self._folder, number).read_bytes(), start):
                yield payload

    def _pending(self) -> int:
        sizes = (segment_path(self._folder, n).stat().st_size for n in segments(self._folder))
        return max(0, sum(sizes) - self._read.offset)


def _events(payload: bytes) -> list[Event]:
    try:
        return unpack(payload)
    except ValueError as e:
        log.error("spool: a record that no one can read is left out", extra={"reason": str(e)[:500]})
        return []
