"""Which files go into which load job: whole groups, in order, and none twice."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop.warehouse.batches import Overlap, batches, groups
from everloop_archive.layout import FileName
from everloop_archive.table_log import DataFile


def file(first: int, last: int, day: int = 1, partition: int = 0, size: int = 10) -> DataFile:
    return DataFile(FileName(date(2026, 11, day), partition, first, last, "0" * 8), size, last - first + 1, 0)


def test_files_whose_offsets_interleave_are_loaded_by_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everloop.warehouse.batches.MAX_FILES", 1)
    first, second, third = file(0, 90, day=1), file(10, 99, day=2), file(100, 120)

    assert list(batches(groups([third, second, first]), {})) == [[first, second], [third]]
    assert list(batches(groups([third, second, first]), {0: 99})) == [[third]]


def test_a_table_that_ends_within_a_group_is_refused() -> None:
    with pytest.raises(Overlap, match="within 0 to 99"):
        list(batches(groups([file(0, 90, day=1), file(10, 99, day=2)]), {0: 90}))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), max_size=30), st.integers(0, 10))
def test_wherever_a_load_stops_the_next_one_loads_the_rest_once(sizes: list[tuple[int, int]], stop: int) -> None:
    ends: dict[int, int] = {}
    files = []
    for partition, rows in sizes:
        first = ends.get(partition, -1) + 1
        ends[partition] = first + rows - 1
        files.append(file(first, ends[partition], partition=partition, size=100_000_000))
    loaded: dict[int, int] = {}
    done: list[DataFile] = []

    for batch in list(batches(groups(files), loaded))[:stop]:
        done += batch
    for one in done:
        loaded[one.name.partition] = max(one.name.last, loaded.get(one.name.partition, -1))
    for batch in batches(groups(files), loaded):
        done += batch

    assert sorted(done) == sorted(files)
