"""The archive in its store, as `ArchivedLog` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

from everloop_archive.layout import KINDS, TableName
from everloop_archive.positions import read_range
from everloop_archive.reader.merged import Batch
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.stores import ArchiveStore
from everloop_schemas.envelope import Topic

TABLES_KEPT = 16
"""Tables whose files and positions are remembered, the ones used last."""
_KINDS = {topic.name: kind for kind, topic in KINDS.items()}
_Bounds = dict[int, tuple[int, int]]


class StoredArchive:
    """Implements `archived_log.Archive`; several threads may call it."""

    def __init__(self, store: ArchiveStore) -> None:
        self._store = store
        self._tables: dict[TableName, tuple[ArchivedTable, _Bounds]] = {}
        self._lock = Lock()

    def bounds(self, topic: Topic, loop: str, partition: int, needed: int) -> tuple[int, int]:
        """The first offset from which on every record of the loop is archived, and the offset that comes next."""
        table, known = self._table(topic, loop)
        if partition not in known or known[partition][1] < needed:
            archived = read_range(self._store, table.name.kind, partition)  # before the table, which is written first
            table.refresh()
            if archived is not None:
                known[partition] = archived.whole_from, max(archived.next, table.position(partition))
        return known.get(partition, (0, 0))

    def records(self, topic: Topic, loop: str, partition: int, start: int) -> Iterator[Batch]:
        """The archived records from the offset `start` on, as far as the last `bounds` has told."""
        table, _ = self._table(topic, loop)
        return table.records(partition, start)

    def _table(self, topic: Topic, loop: str) -> tuple[ArchivedTable, _Bounds]:
        name = TableName(_KINDS[topic.name], loop)
        with self._lock:
            found = self._tables.pop(name, None) or (ArchivedTable(self._store, name), {})
            self._tables[name] = found  # the last is the one used last
            if len(self._tables) > TABLES_KEPT:
                del self._tables[next(iter(self._tables))]
            return found
