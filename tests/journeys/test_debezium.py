"""The whole way from a real PostgreSQL by the real connector of Debezium to predictions and outcomes of a loop."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.journeys.debezium_connector import Connector
from tests.journeys.installation import Installation, counts, until
from tests.journeys.logical_postgres import LogicalPostgres, logical_postgres

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]
TABLE = (
    "CREATE TABLE orders (id bigint PRIMARY KEY, customer text, price numeric(10, 2), made timestamptz, paid boolean)"
)
SPEC = """
loop: shop
task: binary
schema: {{price: {{type: number}}}}
sources:
- name: orders
  topic: {prefix}.public.orders
  format: debezium
  events: {{id: after.id, entity: after.customer, time: after.made}}
  labels: {{id: after.id, label: after.paid}}
"""


@pytest.fixture(scope="module")
def database() -> Iterator[LogicalPostgres]:
    """A PostgreSQL with logical decoding."""
    with logical_postgres() as found:
        yield found


def test_changes_of_a_database_are_events_labels_and_predictions_and_crashes_lose_and_repeat_nothing(
    database: LogicalPostgres, installation: Installation, tmp_path: Path
) -> None:
    prefix = f"crm{uuid4().hex[:6]}"
    bootstrap = installation.services()["kafka"]["bootstrap"]
    connector = Connector(tmp_path / "connect", bootstrap, database, prefix)
    database.execute(TABLE, *_orders(1, 11))
    connector.start()
    try:
        _apply(installation, SPEC.format(prefix=prefix))
        snapshot = _counted(installation, (10, 10, 0))
        database.execute(*_orders(11, 21))
        database.execute("UPDATE orders SET paid = id % 2 = 0", "DELETE FROM orders WHERE id = 3")
        changed = _counted(installation, (20, 20, 20))

        connector.kill()
        os.kill(installation.services()["ingest"]["pid"], signal.SIGKILL)
        database.execute(*_orders(21, 31))
        database.execute("UPDATE orders SET paid = id % 2 = 0 WHERE paid IS NULL")
        connector.start()
        restarted = _counted(installation, (30, 30, 30))
    finally:
        connector.kill()
    [source] = restarted["sources"]
    events = {e["id"]: e for e in installation.read("ingest.event_received.v1", "shop")}
    predictions = installation.read("serving.prediction_made.v1", "shop")
    outcomes = installation.read("feature.outcome_observed.v1", "shop")

    assert (counts(snapshot), counts(changed)) == ((10, 10, 0), (20, 20, 20)), connector.log.read_text()[-3_000:]
    assert counts(restarted) == (30, 30, 30), connector.log.read_text()[-3_000:]
    assert set(events) == {str(n) for n in range(1, 31)}
    assert (events["7"]["subject"], events["7"]["data"]["fields"]) == ("customer-1", {"price": 3.5})
    assert events["7"]["time"].startswith("2025-01-07T12:00:00")
    assert sorted(p["subject"] for p in predictions) == sorted(events)
    assert {o["subject"]: o["data"]["label"] for o in outcomes} == {str(n): n % 2 == 0 for n in range(1, 31)}
    assert len(outcomes) == 30
    assert (source["state"], source["rejected"]) == ("reading", 0)
    assert restarted["dead_letters"] == 0


def _orders(start: int, stop: int) -> list[str]:
    return [
        f"INSERT INTO orders VALUES ({n}, 'customer-{n % 3}', {n / 2}, '2025-01-{(n - 1) % 28 + 1:02} 12:00+00', NULL)"
        for n in range(start, stop)
    ]


def _apply(installation: Installation, spec: str) -> None:
    file = installation.folder / "shop.yaml"
    file.write_text(spec)
    done = installation.everloop("apply", "-f", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loop"] == "shop"


def _counted(installation: Installation, expected: tuple[int, int, int]) -> dict[str, Any]:
    until(lambda: counts(installation.status("shop")) == expected, 90)
    return installation.status("shop")
