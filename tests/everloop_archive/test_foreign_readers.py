"""Programs that know nothing of Everloop read the archive as it is: all rows, typed, filtered by day and by feature."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import deltalake
import duckdb
import pandas as pd  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.dataset as ds  # type: ignore[import-untyped]
import pytest
from pyiceberg.catalog import load_catalog
from tests.builders.loops import loop_spec
from tests.everloop_archive.archiving import archive, placed
from tests.training.training_harness import event

from everloop_archive.layout import TableName
from everloop_archive.reader.iceberg import Registered, open_catalog, register
from everloop_archive.reader.tables import ArchivedTable
from everloop_archive.stores import ArchiveStore

NAME = TableName("outcomes", "market")
FIRST_DAY = 1_440
"""Outcomes of the first day: one a minute."""
GROWN = loop_spec(schema={"a": {"type": "number"}, "b": {"type": "string"}, "c": {"type": "integer"}}, models=[])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two days of outcomes, of a loop whose schema has grown on the second: `b` is text now, and `c` is new."""
    store = ArchiveStore((tmp_path / "archive").as_uri())
    archive(store, "market", placed(event(i) for i in range(1_600)), commits=2)
    later = [event(i, features={"a": 0.5, "b": "text", "c": i}) for i in range(1_600, 2_000)]
    archive(store, "market", placed(later, 1_600), GROWN)
    archive(store, "other", placed((event(i, loop="other") for i in range(100)), 2_000))
    return tmp_path / "archive"


def folder(root: Path) -> str:
    return str(root / NAME.folder)


def test_pandas_reads_a_loop(root: Path) -> None:
    frame = pd.read_parquet(folder(root), columns=["offset", "day", "label", "features"])

    assert len(frame) == 2_000
    assert sorted(frame["offset"]) == list(range(2_000))
    assert (frame["day"].astype(str) == "2026-01-01").sum() == FIRST_DAY
    assert frame["label"].dtype == bool


def test_pyarrow_reads_all_loops_by_day_and_by_feature(root: Path) -> None:
    loops = ds.dataset(str(root / "outcomes"), partitioning="hive", exclude_invalid_files=False)

    assert loops.count_rows() == 2_100
    assert loops.count_rows(filter=(ds.field("loop") == "market") & (ds.field("day") == "2026-01-01")) == FIRST_DAY
    delta = ds.dataset(folder(root), schema=deltalake_schema(root), partitioning="hive")
    assert delta.count_rows(filter=pc.field("features", "c") >= 1_900) == 100


def deltalake_schema(root: Path) -> object:
    table = ArchivedTable(ArchiveStore(root.as_uri()), NAME)
    table.refresh()
    return table.state.schema


def sql(query: str) -> list[tuple[Any, ...]]:
    return duckdb.connect().execute(query).fetchall()


def test_duckdb_reads_all_loops_and_their_structures(root: Path) -> None:
    files = f"read_parquet('{root}/outcomes/loop=*/day=*/*.parquet', hive_partitioning = true, union_by_name = true)"

    counted = sql(f"select loop, day, count(*) from {files} group by all order by all")
    features = sql(f"select count(*), avg(features.a), max(features.c) from {files} where features.c > 0")

    assert [(loop, str(day), rows) for loop, day, rows in counted] == [
        ("market", "2026-01-01", FIRST_DAY),
        ("market", "2026-01-02", 2_000 - FIRST_DAY),
        ("other", "2026-01-01", 100),
    ]
    assert features == [(400, 0.5, 1_999)]


def test_the_record_is_the_event_as_it_was_on_the_log(root: Path) -> None:
    [(record,)] = sql(f"select record from '{folder(root)}/day=*/*.parquet' where \"offset\" = 700")

    assert record.encode() == event(700).encode()
    assert json.loads(record)["type"] == "feature.outcome_observed.v1"


def test_delta_lake_reads_a_loop_with_its_statistics_and_versions(root: Path) -> None:
    table = deltalake.DeltaTable(folder(root))

    assert table.to_pyarrow_dataset().count_rows() == table.count() == 2_000
    first_day = table.to_pandas(filters=[("day", "=", date(2026, 1, 1))], columns=["offset"])
    assert sorted(first_day["offset"]) == list(range(FIRST_DAY))
    assert deltalake.DeltaTable(folder(root), version=1).count() == 800
    assert table.metadata().partition_columns == ["day"]


def iceberg(root: Path, on_commit: object = None) -> Registered:
    catalog = open_catalog(f"sqlite:///{root.parent}/catalog.db", (root / "_iceberg").as_uri(), {})
    return register(ArchivedTable(ArchiveStore(root.as_uri()), NAME), catalog, "everloop")


def test_iceberg_has_the_same_files_and_takes_later_ones_once(root: Path) -> None:
    first, again = iceberg(root), iceberg(root)
    assert (first.table, first.added, first.files, first.rows) == ("everloop.market_outcomes", 4, 4, 2_000)
    assert (again.added, again.files, again.rows) == (0, 4, 2_000)

    archive(ArchiveStore(root.as_uri()), "market", placed([event(i) for i in range(2_000, 2_050)], 2_000), GROWN)
    later = iceberg(root)

    assert (later.added, later.rows) == (1, 2_050)
    catalog = load_catalog("default", uri=f"sqlite:///{root.parent}/catalog.db", warehouse="file:///none")
    table = catalog.load_table("everloop.market_outcomes")
    assert table.scan().count() == 2_050
    of_day = table.scan(row_filter="time < '2026-01-02T00:00:00+00:00'", selected_fields=("offset", "features"))
    assert of_day.to_arrow().num_rows == FIRST_DAY
    assert len(list(of_day.plan_files())) < later.files
    integers = table.scan(row_filter="features.c >= 1900", selected_fields=("offset",)).to_arrow()
    assert sorted(integers["offset"].to_pylist()) == list(range(1_900, 2_000))


def test_iceberg_refuses_a_table_that_has_the_files_of_another_archive(root: Path, tmp_path: Path) -> None:
    iceberg(root)
    other = ArchiveStore((tmp_path / "other").as_uri())
    archive(other, "market", placed(event(i) for i in range(10)))
    catalog = open_catalog(f"sqlite:///{tmp_path}/catalog.db", tmp_path.as_uri(), {})

    with pytest.raises(ValueError, match="name another namespace"):
        register(ArchivedTable(other, NAME), catalog, "everloop")
