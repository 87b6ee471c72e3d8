"""Data files: consecutive records of a table, split by day, as Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from secrets import token_hex
from typing import Any, Self

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from everloop_archive.layout import FileName

ROW_GROUP_ROWS = 10_000
"""Rows that a reader of a file holds in memory at once, at least."""
REPEATED = ("partition", "life", "revision", "entity", "correction", "kind", "source", "version", "role", "door")
"""Columns with few different values: a dictionary of these makes them small. Elsewhere it would only cost time."""


@dataclass(frozen=True)
class RecordsToWrite:
    """Records of one table and partition, as batches in the order of their offsets; the same when it is tried again.

    They are all that the table gets of the partition from its position up to offset `last`.
    """

    partition: int
    batches: Sequence[Any]
    attempt: str

    @classmethod
    def of(cls, partition: int, batches: Sequence[Any]) -> Self:
        """These batches, under the name of a new attempt."""
        return cls(partition, batches, token_hex(4))

    @property
    def first(self) -> int:
        """The first offset."""
        return int(self.batches[0]["offset"][0].as_py())

    @property
    def last(self) -> int:
        """The last offset."""
        return int(self.batches[-1]["offset"][-1].as_py())

    def files(self) -> Iterator[tuple[FileName, Any]]:
        """The files, each with its rows: one for each day, and for each schema where the table has grown meanwhile."""
        for _, batches in groupby(self.batches, key=lambda batch: batch.schema):
            table = pa.Table.from_batches(list(batches))
            days = table["time"].cast(pa.date32())
            every_day = sorted(pc.unique(days).to_pylist())
            for day in every_day:
                of_day = pc.equal(days, pa.scalar(day, pa.date32()))
                rows = table.filter(of_day) if len(every_day) > 1 else table  # a filter copies all columns
                first, last = rows["offset"][0].as_py(), rows["offset"][-1].as_py()
                yield FileName(day, self.partition, first, last, self.attempt), rows


def parquet(rows: Any) -> bytes:
    """The rows as a Parquet file; the same bytes from the same rows."""
    file = BytesIO()
    dictionaries = [name for name in REPEATED if name in rows.schema.names]
    options = {"compression": "zstd", "use_dictionary": dictionaries, "write_page_checksum": True}
    pq.write_table(rows, file, row_group_size=ROW_GROUP_ROWS, **options)
    return file.getvalue()
