"""BigQuery as the source of a backfill, by an emulator of it: a table, a query, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from tests.warehouse.bigquery_server import PROJECT, bigquery_server

from everloop.backfill.columns import HistoryColumns, read_row
from everloop.backfill.sources import BigQueryRows, is_query
from everloop.warehouse.connection import connect
from everloop.warehouse.errors import WarehouseFailed
from everloop_schemas.loop import LoopSpec

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(120)]
SPEC = LoopSpec.model_validate({"loop": "churn", "task": "binary", "schema": {"calls": {"type": "integer"}}})
COLUMNS = HistoryColumns("at", "churned", "customer")
ROWS = 6_000


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """BigQuery with a table of history."""
    with pytest.MonkeyPatch.context() as patch, bigquery_server(tmp_path_factory.mktemp("bigquery")) as url:
        patch.setenv("BIGQUERY_EMULATOR_HOST", url)
        client = connect(PROJECT)
        client.create_dataset("shop")
        at = "TIMESTAMP_ADD(TIMESTAMP '2024-03-01 00:00:00+00', INTERVAL n MINUTE) AS at"
        columns = (
            f"{at}, MOD(n, 9) AS calls, MOD(n, 9) > 4 AS churned, CONCAT('c', CAST(MOD(n, 5) AS STRING)) AS customer"
        )
        numbers = f"UNNEST(GENERATE_ARRAY(0, {ROWS - 1})) AS n"
        client.query(f"CREATE TABLE shop.orders AS SELECT {columns} FROM {numbers}").result()
        yield


@pytest.mark.parametrize("source", [f"bigquery://{PROJECT}.shop.orders", f"SELECT * FROM `{PROJECT}.shop.orders`"])
def test_a_table_and_a_query_are_history(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)

    rows = BigQueryRows(source)
    read = [read_row(row.values, COLUMNS, SPEC, datetime.now(UTC)) for row in rows.rows()]

    assert rows.total == ROWS
    assert not COLUMNS.missing(SPEC, rows.columns)
    assert not [wrong for _, wrong in read if wrong]
    found = sorted((row for row, _ in read if row is not None), key=lambda row: row.time_us)
    assert len(found) == ROWS
    assert found[7].event == {
        "data": {"calls": 7},
        "entity": "c2",
        "time": "2024-03-01T00:07:00+00:00",
    }
    assert [row.label for row in found[:6]] == [False] * 5 + [True]


def test_a_table_that_is_not_there_says_so() -> None:
    with pytest.raises(WarehouseFailed, match="nowhere"):
        BigQueryRows(f"bigquery://{PROJECT}.shop.nowhere")
    with pytest.raises(WarehouseFailed, match="names no table"):
        BigQueryRows("bigquery://orders")


def test_a_query_is_told_from_a_path() -> None:
    assert is_query("select 1")
    assert is_query("  WITH a AS (SELECT 1) SELECT * FROM a")
    assert not is_query("selected/history.csv")
