"""The records of one table and partition that no commit has yet, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from everloop_archive.arrays import ArchivedRecord, record_batch
from everloop_archive.columns import FieldTypes, file_schema
from everloop_archive.data_files import RecordsToWrite
from everloop_archive.table_writer import TableWriter

BATCH_ROWS = 1_000
"""Records are kept as they came until there are so many of them, then as columns."""
RECORD_BYTES, PER_RECORD = 600, 4
"""The memory of a record that came: so much, and so many times its size."""


class TableBuffer:
    """Gathers records in the order of their offsets. `size` is about what they take of the memory, in bytes."""

    def __init__(self, writer: TableWriter, partition: int) -> None:
        self.writer, self.partition = writer, partition
        self.rows = self.size = 0
        self.since = 0.0
        self._came: list[ArchivedRecord] = []
        self._came_size = 0
        self._batches: list[Any] = []
        self._taken: RecordsToWrite | None = None
        self._taken_rows = self._taken_size = 0
        self._oldest: tuple[int, int] | None = None
        self._oldest_taken: tuple[int, int] | None = None

    @property
    def oldest(self) -> tuple[int, int] | None:
        """The offset and the broker's time (ms) of the oldest record that no commit has; None where there is none."""
        return self._oldest_taken or self._oldest

    @property
    def is_taken(self) -> bool:
        """Whether something was taken and is not written."""
        return self._taken is not None

    def add(self, records: Sequence[ArchivedRecord], types: FieldTypes | None) -> None:
        """Add records that the table does not have; None for `types` that are not known yet."""
        if not records:
            return
        if self._oldest is None:
            self._oldest, self.since = (records[0].at.offset, records[0].at.timestamp), time.monotonic()
        size = sum(RECORD_BYTES + PER_RECORD * len(record.value) for record in records)
        self._came += records
        self._came_size += size
        self.size += size
        self.rows += len(records)
        if len(self._came) >= BATCH_ROWS and types is not None:
            self._convert(types)

    def take(self, types: FieldTypes | None) -> RecordsToWrite | None:
        """What is to be written: what was taken before and not written yet, else all that is here.

        None for `types` of a loop that nobody knows: then they follow from the values.
        """
        if self._taken is None and self.rows:
            self._convert(types)
            self._taken = RecordsToWrite.of(self.partition, self._batches)
            self._taken_rows, self._taken_size, self._oldest_taken = self.rows, self.size, self._oldest
            self._batches, self._oldest = [], None
        return self._taken

    def written(self) -> None:
        """Forget what was taken."""
        self.rows, self.size = self.rows - self._taken_rows, self.size - self._taken_size
        self._taken, self._oldest_taken, self._taken_rows, self._taken_size = None, None, 0, 0

    def _convert(self, types: FieldTypes | None) -> None:
        if not self._came:
            return
        if types is None:
            data = [record.event.data for record in self._came]
            personal = any(d.personal for d in data)
            types = FieldTypes.seen((d.prediction for d in data), (d.features for d in data), personal=personal)
        schema, kind = file_schema(self.writer.grow(types)), self.writer.table.kind
        for start in range(0, len(self._came), BATCH_ROWS):
            batch = record_batch(schema, kind, types, self._came[start : start + BATCH_ROWS])
            self._batches.append(batch)
            self.size += batch.nbytes
        self.size -= self._came_size
        self._came, self._came_size = [], 0
