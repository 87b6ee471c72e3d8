"""The commands about the archive, which read it where it lies and need no running installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn

from everloop.cli import archive_views
from everloop.cli.output import CommandFailed, Json, Loop, print_json, print_result, print_stderr, progress_bar
from everloop.extras import require_data, require_module
from everloop_shared.errors import ServiceError

if TYPE_CHECKING:
    from everloop_archive.layout import TableName
    from everloop_archive.reader.summary import TableSummary
    from everloop_archive.reader.tables import ArchivedTable
    from everloop_archive.stores import ArchiveStore

ABOUT = (
    "Look at the archive: outcomes and predictions as Parquet files, a table of Delta Lake for each loop. "
    "The training service writes it where EVERLOOP_ARCHIVE says; these commands read it there, also while nothing runs."
)
Url = Annotated[
    str | None,
    typer.Option(
        "--archive",
        metavar="URL",
        envvar="EVERLOOP_ARCHIVE",
        help="Where the archive lies: file:///DIR, s3://BUCKET/DIR, gs://BUCKET/DIR.",
    ),
]
TableOption = Annotated[
    Literal["outcomes", "predictions"] | None,
    typer.Option("--table", metavar="TABLE", help="Only this table: outcomes or predictions."),
]

Catalog = Annotated[
    str,
    typer.Option("--catalog", metavar="URI", help="http(s):// (REST), thrift:// (Hive), sqlite:/// or postgresql://."),
]
Dataset = Annotated[
    str, typer.Option("--bigquery", metavar="PROJECT.DATASET", help="The data set of BigQuery, which must be there.")
]
OneLoop = Annotated[str | None, typer.Option("--loop", metavar="LOOP", help="Only this loop.")]
Upload = Annotated[
    bool, typer.Option("--upload", help="Send the files from here, also those that BigQuery could read from gs://.")
]
Namespace = Annotated[str, typer.Option("--namespace", metavar="NAME", help="The namespace of the Iceberg tables.")]
Warehouse = Annotated[
    str | None,
    typer.Option(
        "--warehouse", metavar="URL", help="Where Iceberg keeps its metadata. Default: _iceberg in the archive."
    ),
]
Properties = Annotated[
    list[str] | None,
    typer.Option("--property", metavar="NAME=VALUE", help="A property of the catalog, such as token=...; repeat it."),
]


def register(app: typer.Typer) -> None:
    """Mount them."""
    archive = typer.Typer(no_args_is_help=True, help=ABOUT)
    archive.command("ls", epilog="Example: everloop archive ls --archive s3://lake/everloop")(ls)
    archive.command("status", epilog="Example: everloop archive status churn --json")(status)
    archive.command("verify", epilog="Example: everloop archive verify churn --table outcomes")(verify)
    archive.command("iceberg", epilog="Example: everloop archive iceberg churn --catalog sqlite:///lake.db")(iceberg)
    archive.command("load", epilog="Example: everloop archive load --bigquery my-project.everloop")(load)
    app.add_typer(archive, name="archive")


def ls(url: Url = None, as_json: Json = False) -> None:
    """List the tables, with rows, files, bytes and days."""
    store = open_store(url)
    with failures():
        found = [_summary(store, name) for name in _tables(store, None, None)]
    if as_json:
        print_json([asdict(table) for table in found])
    elif found:
        print_result(archive_views.tables(found))
    else:
        print_stderr(f"The archive at {store.url} has no table yet.")


def status(loop: Loop, url: Url = None, as_json: Json = False) -> None:
    """Show what the archive has of a loop: partitions with offsets and positions, days, columns."""
    store = open_store(url)
    with failures():
        found = [_summary(store, name) for name in _tables(store, loop, None)]
    if as_json:
        print_json([asdict(table) for table in found])
    else:
        print_result(*(archive_views.table(one) for one in found))


def verify(loop: Loop, table: TableOption = None, url: Url = None, as_json: Json = False) -> None:
    """Read all that the archive has of a loop, and name every file that is missing, damaged or changed.

    Checksums, numbers of rows and the order of offsets are verified, and columns are compared with the records that
    they come from. The sha256 of a partition is that of its records in order: equal ones mean equal histories.
    """
    from everloop_archive.reader.verify import TableCheck
    from everloop_archive.reader.verify import verify as read_all

    store, checks = open_store(url), dict[str, TableCheck]()
    with failures(), progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        for one in _opened(store, loop, table):
            task = bar.add_task(one.name.kind, total=sum(file.rows for file in one.files()))
            checks[one.name.kind] = read_all(one, partial(_show, bar, task))
    if as_json:
        print_json({kind: asdict(check) for kind, check in checks.items()})
    else:
        print_result(archive_views.checks(checks))
    problems = [problem for check in checks.values() for problem in check.problems]
    if problems:
        print_stderr(*(f"everloop: {problem.detail}" for problem in problems))
        raise typer.Exit(1)


def iceberg(
    loop: Loop,
    catalog: Catalog,
    namespace: Namespace = "everloop",
    warehouse: Warehouse = None,
    properties: Properties = None,
    table: TableOption = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Register the archive's files in a catalog of Apache Iceberg: tables NAMESPACE.LOOP_outcomes and _predictions.

    Nothing is copied: the Iceberg table has the files as they lie in the archive, partitioned by day. Repeat this
    to add what was archived since; what is registered already is not added twice.
    """
    require_module("everloop archive iceberg", "pyiceberg", "pip install 'pyiceberg[sql-sqlite]'")
    from everloop_archive.reader import iceberg as registry

    store, done = open_store(url), list[registry.Registered]()
    given = dict(pair.partition("=")[::2] for pair in properties or ())
    with failures(), _catalog_failures(catalog), progress_bar(MofNCompleteColumn()) as bar:
        opened = registry.open_catalog(catalog, warehouse or store.uri(registry.METADATA_FOLDER), given)
        for one in _opened(store, loop, table):
            task = bar.add_task(one.name.kind, total=None)
            done.append(registry.register(one, opened, namespace, partial(_show, bar, task)))
    if as_json:
        print_json([one._asdict() for one in done])
    else:
        print_result(archive_views.registered(done))


def load(
    dataset: Dataset,
    loop: OneLoop = None,
    table: TableOption = None,
    upload: Upload = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Load tables into a data set of BigQuery: outcomes_LOOP and predictions_LOOP, typed as in the archive.

    Repeat it to load what was archived since: each row is loaded once. Run one of these for a table at a time.
    """
    from everloop.warehouse.connection import connect, split_dataset

    project, name = split_dataset(dataset)
    store, client = open_store(url), connect(project)
    from everloop.warehouse.load import Loaded, Loader

    done = list[Loaded]()
    with failures(), progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        for one in _tables(store, loop, table):
            task = bar.add_task(f"{one.kind} of {one.loop}", total=None)
            loader = Loader(client, store, f"{client.project}.{name}", upload)
            loader.on_progress = partial(_show_of, bar, task)
            done.append(loader.load(one))
    if as_json:
        print_json([asdict(one) for one in done])
    else:
        print_result(*(f"{one.table}: {one.loaded:,} rows loaded, {one.rows:,} in all" for one in done))


def open_store(url: str | None) -> ArchiveStore:
    """The archive that a command is about. Raises CommandFailed where it is not said, or is no URL."""
    require_data("everloop archive", "pyarrow", "fsspec")
    from everloop_archive.stores import ArchiveStore

    if not url:
        raise CommandFailed("which archive? Set EVERLOOP_ARCHIVE, or pass --archive: file:///DIR, s3://BUCKET/DIR")
    try:
        return ArchiveStore(url)
    except ImportError as e:
        raise CommandFailed(f"{url}: {e}; install what reads it: pip install 'everloop[s3]' or 'everloop[gcs]'") from e
    except (ValueError, OSError) as e:
        raise CommandFailed(f"--archive {url}: {e}") from e


@contextmanager
def failures() -> Iterator[None]:
    """What the archive cannot do becomes the command's failure."""
    try:
        yield
    except ServiceError as e:
        raise CommandFailed(e.detail) from e


@contextmanager
def _catalog_failures(uri: str) -> Iterator[None]:
    try:
        yield
    except (CommandFailed, ServiceError):
        raise
    except Exception as e:  # each kind of catalog has its own errors: HTTP, Thrift, SQL, the file system's
        raise CommandFailed(f"the catalog at {uri} cannot take the files: {e}") from e


def _show(bar: Progress, task: TaskID, completed: int) -> None:
    bar.update(task, completed=completed)


def _show_of(bar: Progress, task: TaskID, completed: int, total: int) -> None:
    bar.update(task, completed=completed, total=total)


def _tables(store: ArchiveStore, loop: str | None, kind: str | None) -> list[TableName]:
    """The tables of a loop, or of all; raises CommandFailed where the loop has none."""
    from everloop_archive.reader.summary import stored_tables

    found = [name for name in stored_tables(store, loop) if kind in (None, name.kind)]
    if loop is not None and not found:
        what = f"no table of {kind}" if kind else "no table"
        raise CommandFailed(f"the archive at {store.url} has {what} of loop {loop}; see: everloop archive ls")
    return found


def _opened(store: ArchiveStore, loop: str, kind: str | None) -> list[ArchivedTable]:
    from everloop_archive.reader.tables import ArchivedTable

    tables = [ArchivedTable(store, name) for name in _tables(store, loop, kind)]
    for table in tables:
        table.refresh()
    return tables


def _summary(store: ArchiveStore, name: TableName) -> TableSummary:
    from everloop_archive.reader.summary import summary
    from everloop_archive.reader.tables import ArchivedTable

    return summary(ArchivedTable(store, name))
