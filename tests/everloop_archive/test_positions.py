"""How far a partition is archived, and what retention deleted before that."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop_archive.errors import ArchiveCorrupt
from everloop_archive.layout import position_path
from everloop_archive.positions import ArchivedRange, read_range, write_range
from everloop_archive.stores import ArchiveStore


def test_a_range_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = ArchiveStore(tmp_path.as_uri())
    assert read_range(store, "outcomes", 3) is None

    write_range(store, "outcomes", 3, ArchivedRange(5, 120).with_gap(100, 120))

    assert read_range(store, "outcomes", 3) == ArchivedRange(5, 120, ((100, 120),))
    assert read_range(store, "predictions", 3) is None


def test_records_that_retention_deleted_before_they_were_archived_are_a_gap() -> None:
    archived = ArchivedRange(0, 150)

    assert archived.whole_from == 0
    assert archived.with_gap(100, 150).whole_from == 150
    assert archived.with_gap(100, 150) == ArchivedRange(0, 150, ((100, 150),))


def test_a_damaged_position_is_an_error_that_names_its_file(tmp_path: Path) -> None:
    store = ArchiveStore(tmp_path.as_uri())
    store.write(position_path("outcomes", 0), b'{"begin": 0, "ne')

    with pytest.raises(ArchiveCorrupt, match=r"_everloop/outcomes/0\.position\.json"):
        read_range(store, "outcomes", 0)


def test_an_error_says_where_the_archive_is_without_user_and_password() -> None:
    store = ArchiveStore("memory://me:secret@lake")
    store.write(position_path("outcomes", 0), b"{")

    with pytest.raises(ArchiveCorrupt, match="in the archive at memory://lake cannot be read") as failure:
        read_range(store, "outcomes", 0)
    assert "secret" not in failure.value.detail
    store.fs.rm(store.path(""), recursive=True)
