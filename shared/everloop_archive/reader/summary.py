"""What an archive holds, from its tables' logs alone: no data file is read."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_archive.layout import KINDS, Kind, TableName
from everloop_archive.positions import ArchivedRange, read_range
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import DataFile
from everloop_schemas.names import is_loop_name

_FOLDER = "loop="


@dataclass(frozen=True)
class PartitionSummary:
    """What a table holds of a partition: offsets from `first` to `last`, and all that were before `archived`.

    `gaps` are ranges of offsets (first, the one after the last) that the topic lost before they were archived: records
    of the loop may have been among them. None of this is known (None) before the archiver has written its position.
    """

    partition: int
    first: int
    last: int
    rows: int
    files: int
    since: int | None
    archived: int | None
    gaps: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TableSummary:
    """What a table holds; times in ms since the epoch, days as `2026-11-27`."""

    kind: Kind
    loop: str
    commit: int
    rows: int
    files: int
    bytes: int
    first_day: str
    last_day: str
    modified_ms: int
    partitions: tuple[PartitionSummary, ...]
    columns: tuple[tuple[str, str], ...]


def stored_tables(store: ArchiveStore, loop: str | None = None) -> list[TableName]:
    """The tables of a loop, or of all loops, by name. Raises ArchiveUnavailable."""
    found = []
    for kind in KINDS:
        folders = store.names(kind)
        loops = sorted(name.removeprefix(_FOLDER) for name in folders if name.startswith(_FOLDER))
        found += [TableName(kind, name) for name in loops if is_loop_name(name) and loop in (None, name)]
    return found


def summary(table: ArchivedTable) -> TableSummary:
    """What a table holds now. Raises ArchiveUnavailable, ArchiveCorrupt."""
    partitions = sorted({file.name.partition for file in _refreshed(table)})
    ranges = {p: read_range(table.store, table.name.kind, p) for p in partitions}
    files = _refreshed(table)
    days = sorted(str(file.name.day) for file in files) or [""]
    columns = [(field.name, str(field.type)) for field in table.state.schema or ()]
    return TableSummary(
        kind=table.name.kind,
        loop=table.name.loop,
        commit=table.state.version,
        rows=sum(file.rows for file in files),
        files=len(files),
        bytes=sum(file.size for file in files),
        first_day=days[0],
        last_day=days[-1],
        modified_ms=max((file.modified_ms for file in files), default=0),
        partitions=tuple(_partition(table, p, ranges[p]) for p in partitions),
        columns=tuple(columns),
    )


def _refreshed(table: ArchivedTable) -> list[DataFile]:
    table.refresh()
    return table.files()


def _partition(table: ArchivedTable, partition: int, archived: ArchivedRange | None) -> PartitionSummary:
    files = table.files(partition)
    return PartitionSummary(
        partition=partition,
        first=files[0].name.first,
        last=max(file.name.last for file in files),
        rows=sum(file.rows for file in files),
        files=len(files),
        since=archived.begin if archived else None,
        archived=max(archived.next, table.position(partition)) if archived else None,
        gaps=archived.gaps if archived else (),
    )
