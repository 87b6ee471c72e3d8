"""The log of a table: a Delta Lake log with exclusive commits, which stock readers of Delta Lake read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from threading import Thread

import deltalake
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from everloop_archive.errors import ArchiveCorrupt, ArchiveUnavailable, CommitConflict
from everloop_archive.layout import LAST_CHECKPOINT, FileName, TableName, checkpoint_path, commit_path, position_id
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import DataFile, TableLog, TableState

TABLE = TableName("outcomes", "churn")
POSITION = position_id(TABLE.topic, 0)
SCHEMA = pa.schema(
    {"day": pa.date32(), "offset": pa.int64(), "features": pa.struct({"price": pa.float64(), "plan": pa.string()})}
)


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArchiveStore]:
    store = ArchiveStore(tmp_path.as_uri() if request.param == "local" else f"memory://{tmp_path}")
    yield store
    if request.param == "memory":
        store.fs.rm(store.path(""), recursive=True)


def data_file(first: int, last: int, size: int = 10) -> DataFile:
    return DataFile(FileName(date(2026, 11, 27), 0, first, last, f"{first:08x}"), size, last - first + 1, 1)


def commits(log: TableLog, count: int, state: TableState | None = None) -> TableState:
    """So many commits of one file each, after `state`."""
    state = state or log.commit(TableState(), [], {}, SCHEMA)
    for _ in range(count):
        start = log.position(state, 0)
        state = log.commit(state, [data_file(start, start + 9)], {POSITION: start + 10})
    return state


def test_a_state_is_read_as_it_was_committed(store: ArchiveStore) -> None:
    made = commits(TableLog(store, TABLE), 3)

    read = TableLog(store, TABLE).read()

    assert read == made
    assert (read.version, dict(read.positions)) == (3, {POSITION: 30})
    assert read.schema.equals(SCHEMA)


def test_of_two_writers_of_the_same_commit_one_loses_and_the_other_s_stays(store: ArchiveStore) -> None:
    log = TableLog(store, TABLE)
    state = commits(log, 1)
    log.commit(state, [data_file(10, 19)], {POSITION: 20})

    with pytest.raises(CommitConflict):
        log.commit(state, [data_file(10, 29)], {POSITION: 30})

    assert log.read().positions == {POSITION: 20}
    assert [file.name.last for file in log.files()] == [9, 19]


def test_of_many_writers_at_once_one_makes_each_commit(store: ArchiveStore) -> None:
    log, made = TableLog(store, TABLE), list[int]()
    state = commits(log, 1)

    def write(writer: int) -> None:
        try:
            log.commit(state, [], {POSITION: writer})
            made.append(writer)
        except CommitConflict:
            pass

    threads = [Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert made == [log.read().positions[POSITION]]


def test_an_answer_that_was_lost_is_no_conflict(store: ArchiveStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = TableLog(store, TABLE)
    create = store.create

    def repeated(name: str, data: bytes) -> bool:
        return create(name, data) and create(name, data)

    monkeypatch.setattr(store, "create", repeated)
    state = commits(log, 2)

    assert log.read() == state


def test_a_reader_reads_one_checkpoint_and_the_commits_after_it(
    store: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commits(TableLog(store, TABLE), 250)
    read: list[str] = []
    read_bytes = store.read

    def counted(name: str) -> bytes | None:
        read.append(name)
        return read_bytes(name)

    monkeypatch.setattr(store, "read", counted)

    state = TableLog(store, TABLE).read()

    assert state == made
    assert len(read) == 2 + 50 + 1
    assert [f.name.first for f in TableLog(store, TABLE).files()] == list(range(0, 2500, 10))


@pytest.mark.parametrize("broken", [LAST_CHECKPOINT, checkpoint_path(100)])
def test_a_checkpoint_that_cannot_be_read_is_not_needed(store: ArchiveStore, broken: str) -> None:
    made = commits(TableLog(store, TABLE), 120)
    store.write(f"{TABLE.folder}/{broken}", b"{")

    assert TableLog(store, TABLE).read() == made


def test_files_can_be_listed_as_of_a_commit(store: ArchiveStore) -> None:
    log = TableLog(store, TABLE)
    commits(log, 110)

    assert len(log.files(upto=50)) == 50
    assert len(log.files(upto=105)) == 105


def test_a_commit_that_is_no_commit_is_reported(store: ArchiveStore) -> None:
    log = TableLog(store, TABLE)
    commits(log, 1)
    store.write(f"{TABLE.folder}/{commit_path(2)}", b"{")

    with pytest.raises(ArchiveCorrupt, match="commit 2"):
        log.read()


def test_a_store_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "outcomes").write_text("a file where a folder must be")

    with pytest.raises(ArchiveUnavailable, match="cannot write"):
        commits(TableLog(ArchiveStore(tmp_path.as_uri()), TABLE), 1)


def test_delta_lake_reads_the_table_also_after_a_checkpoint(tmp_path: Path) -> None:
    log = TableLog(ArchiveStore(tmp_path.as_uri()), TABLE)
    state = log.commit(TableState(), [], {}, SCHEMA)
    for first in range(0, 1020, 10):
        table = pa.table({"offset": range(first, first + 10), "features": [{"price": 1.5, "plan": "a"}] * 10})
        file = data_file(first, first + 9)
        path = tmp_path / TABLE.folder / file.name.path
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.cast(pa.schema([SCHEMA.field("offset"), SCHEMA.field("features")])), path)
        state = log.commit(state, [file._replace(size=path.stat().st_size)], {POSITION: first + 10})

    table = deltalake.DeltaTable(str(tmp_path / TABLE.folder))

    assert table.version() == 102
    assert table.transaction_version(POSITION) == 1020
    assert sorted(table.to_pyarrow_table()["offset"].to_pylist()) == list(range(1020))
    assert deltalake.DeltaTable(str(tmp_path / TABLE.folder), version=50).to_pyarrow_table().num_rows == 500


def test_thousands_of_commits_are_read_as_quickly_as_a_few() -> None:
    store = ArchiveStore("memory://thousands")
    made = commits(TableLog(store, TABLE), 2_050)

    reads = 0
    read_bytes = store.read

    def counted(name: str) -> bytes | None:
        nonlocal reads
        reads += 1
        return read_bytes(name)

    store.read = counted  # type: ignore[method-assign]
    assert TableLog(store, TABLE).read() == made
    assert reads < 60
    assert len(TableLog(store, TABLE).files()) == 2_050
    store.fs.rm(store.path(""), recursive=True)
