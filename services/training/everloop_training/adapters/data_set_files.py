"""Data sets on disk while they are sent: read once from the log, within limits on rows, bytes, time and number."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO, cast

from everloop_learning.data_set import Row, RowsDigest
from everloop_learning.data_set_columns import ColumnTypes
from everloop_learning.loops import KnownLoops
from everloop_schemas.training import DataSet
from everloop_shared.errors import FieldError
from everloop_training.adapters.data_sets import DataSets
from everloop_training.domain.data_set_selection import Selection
from everloop_training.errors import DataSetNotStored, DataSetRejected, DataSetTooSlow, NoOutcomes, TooManyReaders
from everloop_training.ports import StoredDataSet
from everloop_training.settings import TrainingSettings


class DataSetFiles:
    """Reads data sets into unnamed files, of which nothing is left, however the process ends.

    The digest, the number of rows and the types of the columns are known before the first byte is sent.
    """

    def __init__(self, settings: TrainingSettings, loops: KnownLoops, data_sets: DataSets) -> None:
        self._settings, self._loops, self._data_sets = settings, loops, data_sets
        self._open = 0

    @asynccontextmanager
    async def open(self, loop: str, selection: Selection) -> AsyncIterator[StoredDataSet]:
        """A data set until the block ends, which takes `data_set_seconds` at most, the block included.

        Raises LoopNotFound, DataSetRejected, DataSetGone, NoOutcomes, TooManyReaders, DataSetTooSlow, Unavailable.
        """
        selection.check()
        self._loops.require(loop)
        if self._open >= self._settings.data_set_readers:
            raise TooManyReaders(f"{self._open} data sets are being read, the limit; retry later")
        self._open += 1
        seconds = self._settings.data_set_seconds
        try:
            async with asyncio.timeout(seconds):
                with await asyncio.to_thread(self._temporary_file) as file:
                    yield await self._store(loop, selection, file)
        except TimeoutError as e:
            raise DataSetTooSlow(f"the data set was not read within {seconds:g} s; ask for fewer outcomes") from e
        except OSError as e:
            raise DataSetNotStored(f"the data set cannot be gathered on disk: {e.strerror or e}") from e
        finally:
            self._open -= 1

    def _temporary_file(self) -> BinaryIO:
        folder = self._settings.folder("training") / "data-sets"
        folder.mkdir(exist_ok=True)
        return cast(BinaryIO, tempfile.TemporaryFile(dir=folder))

    async def _store(self, loop: str, selection: Selection, file: BinaryIO) -> StoredDataSet:
        data_set = await self._select(loop, selection)
        writer = _RowWriter(file, ColumnTypes(self._loops.require(loop).data.spec), self._settings)
        async for rows in self._data_sets.rows(data_set):
            await asyncio.to_thread(writer.write, rows)
        if not writer.digest.rows:
            raise NoOutcomes(f"there is no learnable outcome in {data_set.name}")
        await asyncio.to_thread(file.seek, 0)
        read = {"digest": writer.digest.hexdigest(), "rows": writer.digest.rows}
        return StoredDataSet(writer.types.describe(data_set.model_copy(update=read)), file)

    async def _select(self, loop: str, selection: Selection) -> DataSet:
        limit = self._settings.data_set_rows
        if selection.last is not None:
            if selection.last > limit:
                raise _too_large(f"at most {limit:,}")
            return await self._data_sets.latest(loop, selection.last)
        if selection.start is None and selection.end is None:
            return await self._data_sets.between(loop, selection.since, selection.until)
        return await self._data_sets.of_offsets(loop, selection.start, selection.end, selection.revision)


class _RowWriter:
    """Writes rows, and keeps the digest and the types of what it has written. To be called by one thread at a time."""

    def __init__(self, file: BinaryIO, types: ColumnTypes, settings: TrainingSettings) -> None:
        self._file, self.types, self.digest, self._bytes = file, types, RowsDigest(), 0
        self._max_rows, self._max_bytes = settings.data_set_rows, settings.data_set_bytes

    def write(self, rows: list[Row]) -> None:
        """Write the next rows; raises DataSetRejected at a limit."""
        lines = [row.encode() for row in rows]
        self._bytes += sum(map(len, lines))
        if self.digest.rows + len(rows) > self._max_rows:
            raise _too_large(f"at most {self._max_rows:,}; the range has more outcomes")
        if self._bytes > self._max_bytes:
            raise _too_large(f"fewer than {self.digest.rows:,}: their rows have over {self._max_bytes:,} bytes")
        self.digest.add(lines)
        self.types.add(rows)
        self._file.writelines(lines)


def _too_large(error: str) -> DataSetRejected:
    return DataSetRejected("the data set is too large", [FieldError("last", error)])
