"""Files of rows for the processes that train or search, within a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from everloop_learning.data_set import Row
from everloop_schemas.training import DataSet
from everloop_training.adapters.data_sets import DataSets, RowWriter
from everloop_training.adapters.long_work import retried
from everloop_training.errors import DataSetRejected


class LimitedRowWriter(RowWriter):
    """Writes rows of so many bytes at most."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        super().__init__(file)
        self._most = most

    def check(self, rows: int, size: int) -> None:
        """Raise DataSetRejected beyond the limit."""
        if size > self._most:
            raise DataSetRejected(f"the data set has more than {self._most / 1e6:,.0f} MB: take a smaller window")


class RowWriterWithEntities(LimitedRowWriter):
    """Writes rows with their entities, which the digest leaves out."""

    def written(self, rows: list[Row], lines: list[bytes]) -> Iterable[bytes]:
        """Their lines with the entity."""
        return map(Row.encode_with_entity, rows, lines)


async def write_rows(
    data_sets: DataSets, data_set: DataSet, path: Path, make: Callable[[BinaryIO], RowWriter], what: str
) -> DataSet:
    """Write a data set to a file, and return it with digest and rows; waits while Kafka is away."""

    async def write() -> DataSet:
        with path.open("wb") as file:
            return await data_sets.write(data_set, make(file))

    return await retried(write, what)
