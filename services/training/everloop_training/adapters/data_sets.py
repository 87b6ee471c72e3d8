"""Data sets: which offsets of the log one has, and its rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import BinaryIO

from everloop_learning.data_set import Row, RowsDigest
from everloop_learning.loops import KnownLoops
from everloop_schemas.training import DataSet
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import LogReader
from everloop_training.adapters.learnable_rows import LearnableRows, LogOf
from everloop_training.adapters.personal import WITHOUT_KEYS, PersonalOutcomes
from everloop_training.adapters.row_search import RowSearch
from everloop_training.errors import DataSetGone, DataSetRejected, NoOutcomes


class RowWriter:
    """Writes rows to a file, a line of JSON each, and keeps their digest. To be called by one thread at a time.

    `erased` is the number of rows that were left out because their persons were erased.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self._bytes, self.erased = file, RowsDigest(), 0, 0

    def write(self, rows: list[Row]) -> None:
        """Write the next rows; raises as `check` does."""
        lines = [row.encode() for row in rows]
        self._bytes += sum(map(len, lines))
        self.check(self.digest.rows + len(rows), self._bytes)
        self.digest.add(lines)
        self._file.writelines(self.written(rows, lines))

    def written(self, rows: list[Row], lines: list[bytes]) -> Iterable[bytes]:
        """What the file has of these rows: their lines."""
        return lines

    def check(self, rows: int, size: int) -> None:
        """Raise where a limit does not admit so many rows, or bytes of them, in all; there is none here."""


class DataSets:
    """The data sets of all loops, on the log and, past its retention, in the archive.

    Raises LoopNotFound, Unavailable while the broker, the archive's store or the keys are away, and ArchiveCorrupt.
    """

    def __init__(
        self,
        loops: KnownLoops,
        log: LogReader,
        log_of: LogOf | None = None,
        personal: PersonalOutcomes = WITHOUT_KEYS,
    ) -> None:
        self._loops, self._rows, self._personal = loops, LearnableRows(loops, log, log_of), personal
        self._search = RowSearch(self._rows)

    async def rows(self, data_set: DataSet) -> AsyncIterator[list[Row]]:
        """The learnable outcomes of a data set in order, some at a time, exactly those that lines learn from now on.

        Raises DataSetRejected, and DataSetGone where the log does not hold it any more.
        """
        async for rows in self._sealed(data_set):
            yield await self._personal.rows(rows)

    async def _sealed(self, data_set: DataSet) -> AsyncIterator[list[Row]]:
        await self._check(data_set)
        start, stop = data_set.start, data_set.end + 1
        async for piece in self._rows.read(data_set.loop, start, stop):
            if piece.undecided is not None and piece.undecided >= start:
                raise DataSetGone(
                    f"whether the record at offset {piece.undecided} is learned, records decide that are no longer on "
                    "the log; choose a data set that starts after it"
                )
            if rows := [row for row in piece.rows if row.offset >= start]:
                yield rows

    async def write(self, data_set: DataSet, writer: RowWriter) -> DataSet:
        """Write the rows of a data set in a thread, and return it with its digest and number of rows.

        Raises as `rows` and the writer do, NoOutcomes where there is none, and DataSetGone where a known digest is
        another.
        """
        async for sealed in self._sealed(data_set):
            rows = await self._personal.rows(sealed)
            writer.erased += len(sealed) - len(rows)
            await asyncio.to_thread(writer.write, rows)
        digest, left_out = writer.digest, f": {writer.erased:,} are of erased persons" if writer.erased else ""
        if not digest.rows:
            raise NoOutcomes(f"there is no learnable outcome in {data_set.name}{left_out}")
        found = data_set.model_copy(update={"digest": digest.hexdigest(), "rows": digest.rows})
        if data_set.digest not in (None, found.digest):
            raise DataSetGone(
                f"the rows of {data_set.name} are not those of digest {data_set.digest} any more{left_out}"
            )
        return found

    async def latest(self, loop: str, rows: int) -> DataSet:
        """The last `rows` learnable outcomes of a loop, all where there are fewer; raises NoOutcomes."""
        _, stop = await self._rows.bounds(loop)
        total, last = await self._search.count(loop, stop)
        first = await self._search.offset_of(loop, max(0, total - rows), stop)
        return self._data_set(loop, first, last)

    async def between(self, loop: str, since: datetime | None, until: datetime | None) -> DataSet:
        """From the first learnable outcome at or after `since` to the last one before `until`; raises NoOutcomes.

        A data set is a range of the log: outcomes of other times that lie between these two belong to it.
        """
        _, stop = await self._rows.bounds(loop)
        search, last = self._search, None
        first = await (search.first_since(loop, since, stop) if since else search.offset_of(loop, 0, stop))
        if until is not None:
            last = await search.last_until(loop, until, stop)
        elif first is not None:
            _, last = await search.count(loop, stop)
        return self._data_set(loop, first, last)

    async def of_offsets(self, loop: str, start: int | None, end: int | None, revision: int | None) -> DataSet:
        """From `start`, or the first offset on the log, to `end`, or the last; of the present revision where none."""
        begin, stop = await self._rows.bounds(loop)
        first, last = begin if start is None else start, stop - 1 if end is None else end
        if last < first and (start is None or end is None):
            raise NoOutcomes(f"loop {loop!r} has no learnable outcome in this range")
        present = self._loops.require(loop).revision
        return DataSet(loop=loop, start=first, end=last, revision=present if revision is None else revision)

    def _data_set(self, loop: str, first: int | None, last: int | None) -> DataSet:
        revision = self._loops.require(loop).revision
        if first is None or last is None or last < first:
            raise NoOutcomes(f"loop {loop!r} has no learnable outcome in this range")
        return DataSet(loop=loop, start=first, end=last, revision=revision)

    async def _check(self, data_set: DataSet) -> None:
        state = self._loops.require(data_set.loop)
        begin, end = await self._rows.bounds(data_set.loop)
        errors = []
        if not state.data.life <= data_set.revision <= state.revision:
            errors.append(FieldError("revision", _revision_error(data_set, state.data.life, state.revision)))
        if not 0 <= data_set.start <= data_set.end:
            errors.append(FieldError("start", f"must be from 0 to end, which is {data_set.end}"))
        elif data_set.end >= end:
            errors.append(FieldError("end", f"the last offset on the log is {end - 1}"))
        if errors:
            raise DataSetRejected(f"{data_set.name} is no data set", errors)
        if data_set.start < begin:
            raise DataSetGone(f"{data_set.name} starts before the oldest record on the log, which is at offset {begin}")


def _revision_error(data_set: DataSet, first: int, last: int) -> str:
    if data_set.revision > last:
        return f"loop {data_set.loop!r} is at revision {last}"
    return f"loop {data_set.loop!r} was deleted and applied again; its revisions are {first} to {last}"
