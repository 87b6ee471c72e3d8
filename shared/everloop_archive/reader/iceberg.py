"""Registers the files of a table in a catalog of Apache Iceberg, as they are: nothing is copied.

A property of the Iceberg table, which changes together with its files, says up to which commit of ours it has them; so
a registration that is repeated, or was killed, goes on after that commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform

from everloop_archive.columns import file_schema
from everloop_archive.layout import DAY
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.table_log import DataFile

COMMIT = "everloop.commit"
"""The property of an Iceberg table that names the last commit of the archive's table whose files it has."""
TABLE = "everloop.table"
"""The property that names the archive's table, by its id."""
FILES_AT_ONCE = 200
METADATA_FOLDER = "_iceberg"


class Registered(NamedTuple):
    """What a registration has done: the Iceberg table, files added now, and all that it has."""

    table: str
    added: int
    files: int
    rows: int
    commit: int


def open_catalog(uri: str, warehouse: str, properties: Mapping[str, str]) -> Catalog:
    """The catalog at a URI: `http(s)://` (REST), `thrift://` (Hive), `sqlite:///` or `postgresql://`."""
    return load_catalog("default", **{"uri": uri, "warehouse": warehouse, **properties})


def register(
    source: ArchivedTable,
    catalog: Catalog,
    namespace: str,
    on_files: Callable[[int], None] = lambda files: None,
) -> Registered:
    """Add the files that the Iceberg table does not have yet; `on_files` is told how many were added so far.

    Raises ArchiveUnavailable, ArchiveCorrupt, and the catalog's own errors.
    """
    source.refresh()
    identifier = f"{namespace}.{source.name.loop}_{source.name.kind}"
    table = _opened(catalog, identifier, source)
    added = 0
    for commit, files in _portions(source, _commit_of(table)):
        try:
            _add(table, source, files, commit)
        except CommitFailedException:  # another registration was faster, and may have added these
            table = catalog.load_table(identifier)
            if _commit_of(table) >= commit:
                continue
            _add(table, source, files, commit)
        added += len(files)
        on_files(added)
        table = catalog.load_table(identifier)
    summary = current.summary if (current := table.current_snapshot()) else None
    files_now, rows = (int(summary.get(name, 0) if summary else 0) for name in ("total-data-files", "total-records"))
    return Registered(identifier, added, files_now, rows, _commit_of(table))


def _opened(catalog: Catalog, identifier: str, source: ArchivedTable) -> Table:
    """The Iceberg table, made where it is missing; raises ValueError where it is of another archive."""
    try:
        table = catalog.load_table(identifier)
    except NoSuchTableError:
        catalog.create_namespace_if_not_exists(identifier.rpartition(".")[0])
        with catalog.create_table_transaction(identifier, file_schema(source.state.schema)) as made:
            with made.update_spec() as spec:
                spec.add_field("time", DayTransform(), DAY)
            made.set_properties({TABLE: str(source.state.metadata["id"]), COMMIT: "-1"})
        return catalog.load_table(identifier)
    if table.properties.get(TABLE) != source.state.metadata["id"]:
        raise ValueError(f"{identifier} exists, and has not the files of {source.store.url}; name another namespace")
    return table


def _commit_of(table: Table) -> int:
    return int(table.properties[COMMIT])


def _portions(source: ArchivedTable, after: int) -> Iterator[tuple[int, list[DataFile]]]:
    """The files of the commits after one, some commits at a time, each with the last of these commits."""
    gathered, last = list[DataFile](), after
    for last, files in source.commits(after + 1):
        gathered += files
        if len(gathered) >= FILES_AT_ONCE:
            yield last, gathered
            gathered = []
    if gathered:
        yield last, gathered


def _add(table: Table, source: ArchivedTable, files: Sequence[DataFile], commit: int) -> None:
    """Add files and note the commit, all or nothing."""
    paths = [source.store.uri(f"{source.name.folder}/{file.name.path}") for file in files]
    with table.transaction() as change:
        with change.update_schema() as schema:
            schema.union_by_name(file_schema(source.state.schema))
        change.add_files(paths, snapshot_properties={COMMIT: str(commit)}, check_duplicate_files=False)
        change.set_properties({COMMIT: str(commit)})
