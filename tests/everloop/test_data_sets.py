"""Data sets by the client and by the command line, of a real endpoint of training."""

from __future__ import annotations

import asyncio
import csv
import json
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from everloop import AsyncEverloop, DataSetDamaged, Everloop, EverloopError, EverloopHTTPError, extras
from everloop import data_sets as client_data_sets
from everloop.cli import build

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

pytestmark = pytest.mark.app


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build(), ["dataset", *arguments])


def test_a_data_set_is_the_same_by_range_by_name_and_asynchronously(installation: Served) -> None:
    async def read_asynchronously(name: str) -> tuple[str, str, int]:
        async with AsyncEverloop() as everloop:
            again = await everloop.dataset(name)
            return again.name, again.digest, len(again)

    with Everloop() as everloop:
        whole, last = everloop.dataset("market"), everloop.dataset("market", last=2)
        named = everloop.dataset(last.name)

    assert (whole.name, len(whole), last.name) == ("market@0..2#3", 3, "market@1..2#3")
    assert [row.offset for row in whole] == [row.offset for row in whole] == [0, 1, 2]
    assert (named.digest, [*named]) == (last.digest, [*last])
    assert asyncio.run(read_asynchronously(last.name)) == (last.name, last.digest, 2)
    assert (whole.features, whole.label) == ({"price": "number", "demand": "number"}, "boolean")


def test_a_data_set_becomes_typed_tables_and_files(installation: Served, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    with Everloop() as everloop:
        rows = everloop.dataset("market")

    table, frame = rows.to_arrow(), rows.to_pandas()
    rows.to_parquet(tmp_path / "a.parquet")
    rows.to_csv(tmp_path / "a.csv")
    rows.to_ndjson(tmp_path / "a.ndjson")

    assert table.column_names == rows.columns == ["offset", "time", "prediction_id", "price", "demand", "label"]
    assert [str(t) for t in table.schema.types[3:]] == ["double", "double", "bool"]
    assert table["demand"].to_pylist() == [None, None, None]
    assert frame["label"].tolist() == [True, False, True]
    stored = pq.read_table(tmp_path / "a.parquet")
    assert stored.equals(table)
    assert stored.schema.metadata[b"everloop.digest"].decode() == rows.digest
    with (tmp_path / "a.csv").open() as file:
        assert [*csv.DictReader(file)][2]["label"] == "true"
    assert sha256((tmp_path / "a.ndjson").read_bytes()).hexdigest() == rows.digest


def test_without_the_extra_the_error_names_it(installation: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with Everloop() as everloop:
        rows = everloop.dataset("market")

    for method in (rows.to_arrow, rows.to_pandas, lambda: rows.to_parquet("never.parquet")):
        with pytest.raises(EverloopError, match=r"pip install 'everloop\[data\]'"):
            method()
    assert not Path("never.parquet").exists()


def test_a_range_that_is_none_is_refused_with_the_field(installation: Served) -> None:
    with Everloop() as everloop:
        for field, last, start, end in [("end", None, None, 9), ("start", None, 2, 1), ("last", 1, None, 1)]:
            with pytest.raises(EverloopHTTPError) as refused:
                everloop.dataset("market", last=last, start=start, end=end)
            assert [name for name, _ in refused.value.errors] == [field]
        with pytest.raises(EverloopHTTPError, match="time zone"):
            everloop.dataset("market", since=datetime(2026, 1, 1))
        with pytest.raises(EverloopHTTPError, match="says its range"):
            everloop.dataset("market@0..1#3", last=3)


def test_rows_that_are_not_those_of_the_digest_are_an_error(
    installation: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_data_sets, "sha256", lambda: sha256(b"other"))
    with Everloop() as everloop, pytest.raises(DataSetDamaged, match=r"market@0\.\.2#3"):
        everloop.dataset("market")


@pytest.mark.parametrize("kind", ["parquet", "csv", "ndjson"])
def test_the_command_writes_a_file_and_says_what_is_in_it(installation: Served, tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"market.{kind}"

    result = run("market", "--last", "2", "-o", str(file), "--json")

    about = json.loads(result.stdout)
    assert (about["name"], about["rows"], about["file"]) == ("market@1..2#3", 2, str(file))
    assert file.stat().st_size > 0
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".market")] == []


def test_the_command_writes_lines_to_standard_output(installation: Served) -> None:
    result = run("market@0..1#3", "-o", "-")

    assert [json.loads(line)["offset"] for line in result.stdout.splitlines()] == [0, 1]


def test_an_interrupted_command_leaves_nothing(
    installation: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "market.ndjson"
    file.write_text("before")

    def interrupt(self: object) -> Any:
        yield b"a part"
        raise KeyboardInterrupt

    monkeypatch.setattr(client_data_sets.DataSet, "_chunks", interrupt)
    result = run("market", "-o", str(file))

    assert result.exit_code == 1
    assert file.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir() if "market.ndjson" in p.name] == ["market.ndjson"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["market", "-o", "rows.xlsx"], 2, ".parquet"),
        (["market", "-o", "-", "--json"], 2, "standard output"),
        (["market", "--end", "9"], 1, "end: the last offset on the log is 2"),
        (["market", "-o", "nowhere/rows.csv"], 1, "cannot be written"),
        (["no-loop"], 1, "no-loop"),
    ],
)
def test_the_command_says_what_is_wrong(installation: Served, arguments: list[str], status: int, said: str) -> None:
    result = run(*arguments)

    assert result.exit_code == status
    assert said in result.output
    assert "Traceback" not in result.output
