"""Data sets on disk while they are sent: read once from the log, within limits on rows, bytes, time and number."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO, cast

from everloop_learning.data_set import Row
from everloop_learning.data_set_columns import ColumnTypes
from everloop_learning.loops import KnownLoops
from everloop_schemas.training import DataSet
from everloop_shared.errors import FieldError
from everloop_training.adapters.data_sets import DataSets, RowWriter
from everloop_training.domain.data_set_selection import Selection
from everloop_training.errors import DataSetNotStored, DataSetRejected, DataSetTooSlow, TooManyReaders
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
        writer = _TypedRowWriter(file, ColumnTypes(self._loops.require(loop).data.spec), self._settings)
        read = await self._data_sets.write(data_set, writer)
        await asyncio.to_thread(file.seek, 0)
        return StoredDataSet(writer.types.describe(read, writer.erased), file)

    async def _select(self, loop: str, selection: Selection) -> DataSet:
        limit = self._settings.data_set_rows
        if selection.last is not None:
            if selection.last > limit:
                raise _too_large(f"at most {limit:,}")
            return await self._data_sets.latest(loop, selection.last)
        if selection.start is None and selection.end is None:
            return await self._data_sets.between(loop, selection.since, selection.until)
        return await self._data_sets.of_offsets(loop, selection.start, selection.end, selection.revision)


class _TypedRowWriter(RowWriter):
    """Writes rows within the limits of the settings, and keeps the types of what it has written."""

    def __init__(self, file: BinaryIO, types: ColumnTypes, settings: TrainingSettings) -> None:
        super().__init__(file)
        self.types, self._max_rows, self._max_bytes = types, settings.data_set_rows, settings.data_set_bytes

    def write(self, rows: list[Row]) -> None:
        """Write the next rows; raises DataSetRejected at a limit."""
        super().write(rows)
        self.types.add(rows)

    def check(self, rows: int, size: int) -> None:
        """Raise DataSetRejected beyond the limits."""
        if rows > self._max_rows:
            raise _too_large(f"at most {self._max_rows:,}; the range has more outcomes")
        if size > self._max_bytes:
            raise _too_large(f"fewer than {self.digest.rows:,}: their rows have over {self._max_bytes:,} bytes")


def _too_large(error: str) -> DataSetRejected:
    return DataSetRejected("the data set is too large", [FieldError("last", error)])
