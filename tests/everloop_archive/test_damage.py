"""An archive that was damaged: what cannot be read is named, and nothing else is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.everloop_archive.archiving import archive, placed
from tests.training.training_harness import event

from everloop_archive.errors import ArchiveCorrupt, ArchiveUnavailable
from everloop_archive.layout import TableName, commit_path
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.reader.verify import verify
from everloop_archive.stores import ArchiveStore

NAME = TableName("outcomes", "market")


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    """Three commits of 500 outcomes, of one day and the next."""
    store = ArchiveStore(tmp_path.as_uri())
    archive(store, "market", placed(event(i) for i in range(1_500)), commits=3)
    return store


def data_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / NAME.folder).glob("day=*/*.parquet"), key=lambda path: int(path.name.split("-")[1]))


def read(store: ArchiveStore) -> int:
    table = ArchivedTable(store, NAME)
    table.refresh()
    return sum(len(batch) for batch in table.records(0, 0))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 255
    path.write_bytes(bytes(data))


def exchange(path: Path) -> None:
    """Put another data file in its place, padded or cut to its size."""
    other = next(each for each in path.parent.iterdir() if each != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "it is missing"),
        (cut, "bytes, and the table's log says"),
        (alter, "cannot be read: "),
        (exchange, ""),
    ],
)
def test_a_damaged_data_file_is_an_error_that_names_it(
    store: ArchiveStore, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    damaged = data_files(tmp_path)[1]
    damage(damaged)

    with pytest.raises(ArchiveCorrupt, match=damaged.name) as failure:
        read(store)
    assert said in failure.value.detail

    table = ArchivedTable(store, NAME)
    check = verify(table)
    assert [damaged.name in problem.detail for problem in check.problems] == [True]
    assert 1_000 <= check.rows < 1_500  # all of the other files


@pytest.mark.parametrize("damage", [Path.unlink, cut, alter])
@pytest.mark.parametrize("version", [0, 2])
def test_a_damaged_commit_is_an_error_that_names_it(
    store: ArchiveStore, tmp_path: Path, version: int, damage: Callable[[Path], None]
) -> None:
    damaged = tmp_path / NAME.folder / commit_path(version)
    if damage is alter:
        damaged.write_text(damaged.read_text().replace('"add"', '"add').replace('"metaData"', '"metaData'))
    else:
        damage(damaged)

    with pytest.raises(ArchiveCorrupt, match=rf"commit {version} of|0{version}\.json"):
        read(store)


def test_a_file_that_no_commit_names_is_passed_over_and_said(store: ArchiveStore, tmp_path: Path) -> None:
    first = data_files(tmp_path)[0]
    (first.parent / "0-1500-1999-aaaaaaaa.parquet").write_bytes(b"half a fi")
    table = ArchivedTable(store, NAME)

    check = verify(table)

    assert (check.rows, check.problems) == (1_500, [])
    assert check.unnamed == [f"{first.parent.name}/0-1500-1999-aaaaaaaa.parquet"]


def test_a_store_that_is_away_is_no_damage(store: ArchiveStore, monkeypatch: pytest.MonkeyPatch) -> None:
    table = ArchivedTable(store, NAME)
    table.refresh()

    def refuse(*arguments: object, **named: object) -> None:
        raise ConnectionError("connection refused")

    monkeypatch.setattr(store.fs, "open", refuse)

    with pytest.raises(ArchiveUnavailable, match="connection refused"):
        list(table.records(0, 0))


def test_equal_histories_have_equal_digests_however_they_were_committed(store: ArchiveStore, tmp_path: Path) -> None:
    other = ArchiveStore((tmp_path / "other").as_uri())
    archive(other, "market", placed(event(i) for i in range(1_500)), commits=1)

    ours, theirs = (verify(ArchivedTable(each, NAME)).partitions for each in (store, other))

    assert ours == theirs
    assert (ours[0].rows, ours[0].first, ours[0].last) == (1_500, 0, 1_499)
