"""Reads all of a table, and says what of it cannot be read or does not fit together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from everloop_archive.errors import ArchiveCorrupt
from everloop_archive.reader.file_records import FileRecords
from everloop_archive.reader.merged import Batch, StoredRecord, merged
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.table_log import DataFile
from everloop_schemas.catalogue import decode

CHECKED = ("offset", "partition", "appended", "id", "prediction_id", "revision", "time", "record")
"""The columns that are compared with the record; of all others the checksums are verified."""
PROBLEMS_NAMED = 100


@dataclass(frozen=True)
class Problem:
    """What is wrong in a partition."""

    partition: int
    detail: str


@dataclass
class PartitionCheck:
    """What was read of one partition. `sha256` is that of its lines `OFFSET RECORD`, in order."""

    partition: int
    rows: int = 0
    first: int = -1
    last: int = -1
    sha256: str = ""


@dataclass
class TableCheck:
    """What was read of a table, and each problem, the first hundred of them; `unnamed` files are in no commit."""

    rows: int = 0
    files: int = 0
    partitions: list[PartitionCheck] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)

    def add_problem(self, partition: int, detail: str) -> None:
        """Add one, unless there are enough of them."""
        if len(self.problems) < PROBLEMS_NAMED:
            self.problems.append(Problem(partition, detail))


def verify(table: ArchivedTable, on_rows: Callable[[int], None] = lambda rows: None) -> TableCheck:
    """Read all columns of all files; `on_rows` is told the number of rows so far. Raises ArchiveUnavailable."""
    table.refresh()
    found = TableCheck(files=len(table.files()), unnamed=_unnamed(table))
    for partition in sorted({file.name.partition for file in table.files()}):
        check, digest = PartitionCheck(partition), sha256()
        found.partitions.append(check)
        sources = [_CheckedFile(table, file, found) for file in table.files(partition)]
        try:
            for batch in merged(sources):
                check.first = batch[0].offset if check.first < 0 else check.first
                check.rows, check.last, found.rows = check.rows + len(batch), batch[-1].offset, found.rows + len(batch)
                digest.update(b"".join(b"%d %b\n" % (record.offset, record.value) for record in batch))
                on_rows(found.rows)
        except ArchiveCorrupt as e:
            found.add_problem(partition, e.detail)
        check.sha256 = digest.hexdigest()
        position = table.position(partition)
        if check.last >= position:
            found.add_problem(partition, f"its position is {position}, but it has offset {check.last}")
    return found


class _CheckedFile:
    """A file whose columns are compared with its records; what is wrong with it is a problem, and ends it."""

    def __init__(self, table: ArchivedTable, file: DataFile, found: TableCheck) -> None:
        self._table, self._file, self._found = table, file, found
        self._records = FileRecords(table.store, table.name.folder, file)
        self.name, self.first = self._records.name, self._records.first

    def batches(self) -> Iterator[Batch]:
        """Its records, as far as they can be read."""
        try:
            for batch in self._records.columns():
                rows = batch.select([name for name in CHECKED if name in batch.schema.names]).to_pylist()
                for row in rows:
                    self._check(row)
                yield [StoredRecord(row["offset"], 0, row["record"].encode()) for row in rows]
        except ArchiveCorrupt as e:
            self._found.add_problem(self._file.name.partition, e.detail)

    def _check(self, row: dict[str, Any]) -> None:
        """Raise ArchiveCorrupt where a row's columns are not those of its record."""
        name = self._table.name
        try:
            event = decode(name.topic.name, row["record"].encode())
        except (ValueError, RecursionError) as e:
            raise self._wrong(row, f"its record is no event: {e}") from e
        time = event.data.predicted if name.kind == "outcomes" else event.data.observed
        expected = {
            "partition": self._file.name.partition,
            "id": event.id,
            "prediction_id": event.subject,
            "revision": event.revision,
            "time": time,
        }
        wrong = [column for column, value in expected.items() if row.get(column) != value]
        if event.loop != name.loop:
            raise self._wrong(row, f"its record is one of loop {event.loop}")
        if wrong:
            raise self._wrong(row, f"its record has another {wrong[0]}")
        if row["time"].date() != self._file.name.day:
            raise self._wrong(row, f"its day is {row['time'].date()}")

    def _wrong(self, row: dict[str, Any], reason: str) -> ArchiveCorrupt:
        return ArchiveCorrupt(f"{self.name}, offset {row['offset']}: {reason}")


def _unnamed(table: ArchivedTable) -> list[str]:
    """Data files that no commit names: of a writer that is at work, or was killed; readers pass over them."""
    folder, named = table.name.folder, {file.name.path for file in table.files()}
    days = [day for day in table.store.names(folder) if day.startswith("day=")]
    there = (f"{day}/{name}" for day in days for name in table.store.names(f"{folder}/{day}"))
    return [path for path in there if path not in named]
