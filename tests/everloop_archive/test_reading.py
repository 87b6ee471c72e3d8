"""Reading a table: all records once, in the order of the log, from any offset on."""

from __future__ import annotations

import os
import random
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from tests.everloop_archive.archiving import archive, placed
from tests.training.training_harness import START, event

from everloop_archive.layout import TableName
from everloop_archive.reader.merged import StoredRecord
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.stores import ArchiveStore


@pytest.fixture
def store(tmp_path: Path) -> ArchiveStore:
    return ArchiveStore(tmp_path.as_uri())


def read(store: ArchiveStore, start: int = 0, partition: int = 0) -> list[StoredRecord]:
    table = ArchivedTable(store, TableName("outcomes", "market"))
    table.refresh()
    return [record for batch in table.records(partition, start) for record in batch]


def test_records_come_as_they_are_on_the_log_wherever_reading_starts(store: ArchiveStore) -> None:
    records = placed((event(i) for i in range(3_000)), 100)  # two days
    archive(store, "market", records, commits=3)

    for start in (0, 100, 101, 1_099, 1_100, 2_345, 3_099, 3_100):
        found = read(store, start)

        assert [(r.offset, r.value) for r in found] == [(o, e.encode()) for o, e in records if o >= start]
        assert [r.appended_ms for r in found] == [1_764_000_000_000 + r.offset for r in found]


def test_files_of_many_days_whose_offsets_are_mixed_are_put_in_order(store: ArchiveStore) -> None:
    rng = random.Random(1)
    events = [event(i, predicted=START + timedelta(days=rng.randrange(30))) for i in range(2_000)]
    archive(store, "market", placed(events), commits=4)

    assert [r.offset for r in read(store)] == list(range(2_000))
    assert [r.offset for r in read(store, 777)] == list(range(777, 2_000))


def test_partitions_are_read_apart(store: ArchiveStore) -> None:
    archive(store, "market", placed(event(i) for i in range(10)), partition=0)
    archive(store, "market", placed((event(i) for i in range(10, 15)), 3), partition=2)

    assert [r.offset for r in read(store, partition=0)] == list(range(10))
    assert [r.offset for r in read(store, partition=2)] == [3, 4, 5, 6, 7]
    assert read(store, partition=1) == []


def test_a_table_that_is_open_sees_later_commits_once_it_is_refreshed(store: ArchiveStore) -> None:
    archive(store, "market", placed(event(i) for i in range(10)))
    table = ArchivedTable(store, TableName("outcomes", "market"))
    table.refresh()

    archive(store, "market", placed((event(i) for i in range(10, 20)), 10))
    table.refresh()

    assert (table.position(0), len(table.files())) == (20, 2)
    assert sum(len(batch) for batch in table.records(0, 0)) == 20


@pytest.mark.skipif(sys.platform != "linux", reason="open files are listed by Linux")
def test_a_reader_that_stops_in_the_middle_leaves_no_file_open(store: ArchiveStore) -> None:
    rng = random.Random(2)
    events = [event(i, predicted=START + timedelta(days=rng.randrange(5))) for i in range(500)]
    archive(store, "market", placed(events))
    table = ArchivedTable(store, TableName("outcomes", "market"))
    table.refresh()
    records = table.records(0, 0)
    for _ in range(30):
        next(records)
    assert open_data_files() == 5

    records.close()

    assert open_data_files() == 0


def open_data_files() -> int:
    return sum(".parquet" in os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
