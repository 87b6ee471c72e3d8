"""History as rows: what fits a loop, in the order of its times, with ids that follow from the content."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.object_stores import ObjectStore

from everloop.backfill.columns import HistoryColumns, read_row
from everloop.backfill.sources import Files
from everloop.backfill.staging import Staging
from everloop.replay.rows import FileUnusable, Row
from everloop_schemas.loop import LoopSpec
from everloop_shared.file_systems import open_file_system

SPEC = LoopSpec.model_validate(
    {
        "loop": "churn",
        "task": "binary",
        "schema": {
            "calls": {"type": "integer"},
            "price": {"type": "number", "missing": None},
            "plan": {"type": "string", "missing": None},
            "open": {"type": "boolean", "missing": None},
        },
    }
)
COLUMNS = HistoryColumns("at", "churned", "customer")
NOW = datetime(2026, 11, 27, tzinfo=UTC)
BASE = {"at": "2019-05-01 12:00:00", "customer": "c1", "calls": 3, "churned": 1}


def read(**values: Any) -> tuple[Any, list[tuple[str, str]]]:
    row, wrong = read_row({**BASE, **values}, COLUMNS, SPEC, NOW)
    return row, wrong


def staged(rows: Iterable[dict[str, Any]], columns: HistoryColumns = COLUMNS) -> tuple[list[Row], Staging]:
    with Staging("churn") as staging:
        for number, values in enumerate(rows, 1):
            staging.add(number, *read_row({**BASE, **values}, columns, SPEC, NOW))
        return list(staging.rows()), staging


@pytest.mark.parametrize(
    "time",
    [
        "2019-05-01 12:00:00",
        "2019-05-01T14:00:00+02:00",
        datetime(2019, 5, 1, 12),
        datetime(2019, 5, 1, 12, tzinfo=UTC),
        1556712000,
    ],
)
def test_times_are_read_as_sources_have_them_and_are_utc_without_a_zone(time: Any) -> None:
    row, wrong = read(at=time)

    assert not wrong
    assert row.event["time"] == "2019-05-01T12:00:00+00:00"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"at": None}, "at"),
        ({"at": "yesterday"}, "at"),
        ({"at": "1969-12-31 23:59:59"}, "at"),
        ({"at": "2031-01-01"}, "at"),
        ({"calls": None}, "data.calls"),
        ({"calls": "many"}, "data.calls"),
        ({"calls": 1.5}, "data.calls"),
        ({"price": float("inf")}, "data.price"),
        ({"customer": None}, "entity"),
        ({"customer": "a\nb"}, "entity"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_with_its_field(values: dict[str, Any], field: str) -> None:
    row, wrong = read(**values)

    assert row is None
    assert [name for name, _ in wrong] == [field]


def test_values_of_typed_sources_become_the_types_of_the_loop() -> None:
    row, wrong = read(calls=3.0, price=Decimal("1.50"), plan=date(2019, 1, 2), open=1, churned=0.0)

    assert not wrong
    assert row.event["data"] == {"calls": 3, "price": 1.5, "plan": "2019-01-02", "open": True}
    assert row.label is False


def test_a_missing_value_of_a_frame_is_missing_and_a_wrong_label_alone_is_left_out() -> None:
    row, wrong = read(price=float("nan"), churned="perhaps")

    assert row.event["data"]["price"] is None
    assert row.label is None
    assert [name for name, _ in wrong] == ["churned"]


def test_rows_come_in_the_order_of_their_times_and_keep_their_ids_in_any_order_of_the_source() -> None:
    history = [{"at": f"2019-05-01 {n % 24:02}:00:00", "calls": n % 50} for n in range(200)]
    shuffled = random.Random(1).sample(history, 200)

    first, _ = staged(history)
    second, _ = staged(shuffled)

    times = [row.event["time"] for row in first]
    assert times == sorted(times)
    assert {(r.event["id"], r.event["time"], r.event["data"]["calls"]) for r in first} == {
        (r.event["id"], r.event["time"], r.event["data"]["calls"]) for r in second
    }
    assert {r.key for r in first} == {r.key for r in second}


def test_equal_rows_are_as_many_observations_and_the_same_ones_again() -> None:
    first, _ = staged([{}] * 3)
    second, _ = staged([{}] * 3)

    assert len({row.event["id"] for row in first}) == 3
    assert {row.event["id"] for row in first} == {row.event["id"] for row in second}


def test_an_id_of_two_different_rows_is_refused_and_a_repeated_row_is_not() -> None:
    columns = HistoryColumns("at", "churned", "customer", "key")

    rows, staging = staged([{"key": "a"}, {"key": "a"}, {"key": "a", "calls": 9}], columns)

    assert [row.event["id"] for row in rows] == ["a"]
    assert staging.repeated == 1
    assert staging.refused.first["id"][0] == 3


def test_rows_that_the_loop_has_already_are_left_out() -> None:
    with Staging("churn") as staging:
        for number in range(4):
            staging.add(number, *read_row({**BASE, "calls": number}, COLUMNS, SPEC, NOW))
        every = [row.event["id"] for row in staging.rows()]
        staging.skip_known(iter(every[:3]))

        assert [row.event["id"] for row in staging.rows()] == every[3:]
        assert staging.already == 3


def test_files_of_every_kind_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    start = datetime(2019, 5, 1, tzinfo=UTC)
    history = [{**BASE, "at": (start + timedelta(hours=n)).isoformat(), "calls": n, "price": n / 4} for n in range(30)]
    pq.write_table(pa.Table.from_pylist(history), tmp_path / "a.parquet")
    (tmp_path / "a.ndjson").write_text("".join(json.dumps(row) + "\n" for row in history))
    lines = [",".join(history[0]), *(",".join(map(str, row.values())) for row in history)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
        file.write((tmp_path / "a.csv").read_bytes())
    folder = tmp_path / "folder"
    folder.mkdir()
    for part in (0, 1):
        pq.write_table(pa.Table.from_pylist(history[part::2]), folder / f"part-{part}.parquet")
    (folder / "_SUCCESS").touch()

    found = []
    for name in ("a.parquet", "a.ndjson", "a.csv", "a.csv.gz", "folder"):
        source = Files(str(tmp_path / name))
        assert not COLUMNS.missing(SPEC, source.columns)
        found.append([r.event for r in staged(dict(row.values) for row in source.rows())[0]])

    assert len(found[0]) == 30
    assert all(events == found[0] for events in found)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"x", "endings"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.csv", b"at,calls\n1\n", "line 2 has 1 values"),
        ("a.ndjson", b"{}\n[]\n", "line 2 is no JSON object"),
        ("a.ndjson", b"{not json}\n", "cannot be read"),
        ("a.csv", b"at\n\xff\n", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(FileUnusable, match=says):
        list(Files(str(tmp_path / name)).rows())


def test_history_is_read_from_object_stores(object_store: ObjectStore) -> None:
    fs, path = open_file_system(object_store.url)
    fs.pipe_file(f"{path}/history/a.ndjson", b'{"at": "2019-05-01", "calls": 1}\n')

    assert [row.values["calls"] for row in Files(f"{object_store.url}/history").rows()] == [1]
