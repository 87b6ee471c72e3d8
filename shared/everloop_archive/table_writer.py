"""Writes records of one table: data files, then the commit that makes them count. Blocks.

The order makes it exactly once wherever the process is killed. First the names of the files are written to a list of
unfinished files, then the files, then the commit, which is created exclusively and holds the table's position in the
partition; then the list is deleted. Who opens the partition next removes the files of the lists that no commit names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]

from everloop_archive.columns import FieldTypes, grown_schema
from everloop_archive.data_files import RecordsToWrite, parquet
from everloop_archive.errors import CommitConflict, PositionMoved
from everloop_archive.layout import FileName, TableName, owner_id, position_id, unfinished_folder
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import DataFile, TableLog, TableState, now_ms


class Written(NamedTuple):
    """What a commit has added."""

    files: int
    rows: int
    size: int


class TableWriter:
    """The writer of one table, for the partitions that this process archives.

    Any thread may call it: it writes, and opens, for one partition at a time.
    """

    def __init__(self, store: ArchiveStore, table: TableName) -> None:
        self.table, self._store, self._log = table, store, TableLog(store, table)
        self._state = TableState()
        self._schema: Any = None  # the table's, and columns that the next commit adds
        self._schemas, self._log_lock = Lock(), Lock()
        self._owners: dict[int, int] = {}
        self._begun: dict[str, bool] = {}  # the files of writes that have not ended: whether a commit names them

    def open(self, partition: int) -> None:
        """Read the table's log before the first record of a partition; raises ArchiveUnavailable."""
        with self._log_lock:
            if self._state.version < 0:
                self._advance(self._log.read())
            self._catch_up(())
            self._owners[partition] = self._owner(partition)

    def position(self, partition: int) -> int:
        """The offset after the last one that the table has of a partition."""
        return self._log.position(self._state, partition)

    def grow(self, types: FieldTypes) -> Any:
        """The table's schema with the columns that these types need, which the next commit writes."""
        with self._schemas:
            self._schema = grown_schema(self._schema, self.table.kind, types)
            return self._schema

    def write(self, records: RecordsToWrite) -> Written:
        """Write records and commit them. To be repeated, with the same records, after ArchiveUnavailable.

        Raises PositionMoved where another writer has been here: then the partition has to be opened again.
        """
        files = list(records.files())
        names = {name.path for name, _ in files}
        with self._log_lock:
            self._begun = dict.fromkeys(names, False) | self._begun
            written = self._write_listed(records, files, names)
            self._end(names)
            return written

    def _write_listed(
        self, records: RecordsToWrite, files: Sequence[tuple[FileName, Any]], names: Collection[str]
    ) -> Written:
        unfinished = self._list_unfinished(records, names)
        try:
            written = self._write_all(records, files, names)
        except PositionMoved:
            for name in names:
                self._store.delete(f"{self.table.folder}/{name}")
            self._store.delete(unfinished)
            self._end(names)
            raise
        self._store.delete(unfinished)
        return written

    def _end(self, names: Collection[str]) -> None:
        for name in names:
            del self._begun[name]

    def _write_all(
        self, records: RecordsToWrite, files: Sequence[tuple[FileName, Any]], names: Collection[str]
    ) -> Written:
        written = list[DataFile]()
        if not self._catch_up(names):  # else an earlier attempt was committed, although its answer was lost
            self._check(records)
            self._create_table(records)
            written = [self._write_file(name, rows) for name, rows in files]
            self._commit(records, names, written)
        return Written(len(files), sum(rows.num_rows for _, rows in files), sum(file.size for file in written))

    def _list_unfinished(self, records: RecordsToWrite, names: Collection[str]) -> str:
        """Write the list of the files that are about to be written, and return its name."""
        path = f"{unfinished_folder(self.table.kind, records.partition)}/{self.table.loop}.{records.attempt}.json"
        content = {"loop": self.table.loop, "files": sorted(names), "at": time.time()}
        self._store.write(path, json.dumps(content).encode())
        return path

    def _create_table(self, records: RecordsToWrite) -> None:
        """Make the table's first commit before its first file, so that the owner of its files can be changed."""
        if self._state.version < 0:
            try:
                self._state = self._log.commit(self._state, [], {}, self._schema, "CREATE TABLE")
            except CommitConflict:
                self._catch_up(())
                self._check(records)

    def _write_file(self, name: FileName, rows: Any) -> DataFile:
        data = parquet(rows)
        self._store.write(f"{self.table.folder}/{name.path}", data)
        return DataFile(name, len(data), rows.num_rows, now_ms())

    def _commit(self, records: RecordsToWrite, names: Collection[str], files: Sequence[DataFile]) -> None:
        """Commit, after the commits that others make meanwhile for other partitions."""
        positions = {position_id(self.table.topic, records.partition): records.last + 1}
        while True:
            with self._schemas:
                grown = None if self._schema.equals(self._state.schema) else self._schema
            try:
                self._state = self._log.commit(self._state, files, positions, grown)
                self._begun |= dict.fromkeys(names, True)
                return
            except CommitConflict:
                if self._catch_up(names):
                    return
                self._check(records)

    def _check(self, records: RecordsToWrite) -> None:
        """Raise PositionMoved where others have archived this partition, or given columns other types."""
        position, owner = self.position(records.partition), self._owner(records.partition)
        if position > records.first or owner != self._owners[records.partition]:
            raise PositionMoved(f"{self.table.folder} is at offset {position} of partition {records.partition}")
        if not all(_holds(self._schema, batch.schema) for batch in records.batches):
            raise PositionMoved(f"the columns of {self.table.folder} have changed meanwhile")

    def _catch_up(self, names: Collection[str]) -> bool:
        """Read the commits that were made since; whether one of all so far names a file of these.

        What a commit names is remembered until its write has ended: the write may fail after the commit, and is
        repeated then, also where others have read the commit meanwhile.
        """
        for version, actions in self._log.commits_after(self._state.version):
            added = {action["add"]["path"] for action in actions if "add" in action}
            self._begun |= dict.fromkeys(added & self._begun.keys(), True)
            self._advance(self._state.after(actions, version))
        return any(self._begun[name] for name in names)

    def _advance(self, state: TableState) -> None:
        """Go on to what others have committed; columns that grew here, and that they lack, grow again when needed."""
        with self._schemas:
            if state.schema is not self._state.schema:
                self._schema = state.schema
            self._state = state

    def _owner(self, partition: int) -> int:
        return self._state.positions.get(owner_id(self.table.topic, partition), 0)


def _holds(columns: Any, wanted: Any) -> bool:
    """Whether there are columns of these names and types, or structures that have them."""
    return all((at := _named(columns, field.name)) is not None and _type_holds(at.type, field.type) for field in wanted)


def _type_holds(there: Any, wanted: Any) -> bool:
    if pa.types.is_struct(wanted) and pa.types.is_struct(there):
        return _holds(there, wanted)
    if pa.types.is_list(wanted) and pa.types.is_list(there):
        return _type_holds(there.value_type, wanted.value_type)
    return bool(there == wanted)


def _named(columns: Any, name: str) -> Any:
    return next((column for column in columns if column.name == name), None)
