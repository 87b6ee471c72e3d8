"""The endpoint of quality and its gauges, on the running service."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prometheus_client import REGISTRY
from tests.builders.events import prediction_made
from tests.builders.loops import LOOP
from tests.databases import database_url
from tests.monitoring.monitoring_service import outcome, running, state

from everloop_monitoring.adapters.gauges import update_gauges
from everloop_monitoring.adapters.reader import SqlMonitoringReader
from everloop_monitoring.adapters.row_names import LifetimeNames
from everloop_monitoring.adapters.unit_of_work import BatchUnitOfWork
from everloop_monitoring.api.quality import Quality
from everloop_monitoring.app import MIGRATIONS
from everloop_shared.database import Database
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position

WATCHED = {"monitor": {"slices": ["price"]}, "metric": "f1"}
DELAY = {"loop": LOOP, "percentile": "p99"}


async def test_quality_is_answered_by_group_as_the_openapi_document_says(tmp_path: Path) -> None:
    predictions = [prediction_made(f"e{i}") for i in range(40)]
    outcomes = [outcome(f"e{i}", i % 2 == 0, features={"price": 1.0}) for i in range(20)]
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state(spec=WATCHED), *predictions, *outcomes, outcome("e1", True, correction=1))
        await monitoring.caught_up()
        answer = await monitoring.get("quality")
        document = (await monitoring.http.get("/openapi.json")).json()
        missing = await monitoring.http.get("/v1/loops/nobody/quality")

    quality = Quality.model_validate(answer)
    groups = {(group.by, group.name): group for group in quality.groups}
    served = groups["served", "served"]
    assert (quality.metric, quality.window, served.outcomes) == ("f1", 500, 20)
    assert (served.whole["accuracy"], served.whole["recall"]) == (11 / 20, 1.0)
    assert groups["slice", "1"].slice == "price"
    assert (quality.labels.predictions, quality.labels.labelled, quality.labels.corrected) == (40, 20, 1)
    assert "/v1/loops/{loop}/quality" in document["paths"]
    assert missing.status_code == 404


async def test_a_loop_that_does_not_ask_for_quality_has_no_groups_but_its_coverage(tmp_path: Path) -> None:
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state(), *(prediction_made(f"e{i}") for i in range(4)), outcome("e1", True))
        await monitoring.caught_up()
        quality = await monitoring.get("quality")

    assert (quality["groups"], quality["estimated"], quality["labels"]["coverage"]) == ([], None, 0.25)


async def test_each_metric_has_a_gauge(tmp_path: Path) -> None:
    def value(kind: str, metric: str) -> float | None:
        of = {"loop": LOOP, "kind": kind, "metric": metric}
        return REGISTRY.get_sample_value("everloop_monitoring_quality_ratio", of)

    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        unit = BatchUnitOfWork(database)
        loops = unit.handlers.loops
        async with unit:
            await unit.handlers.on_loop_state(state(spec=WATCHED), Position("", 0, 0))
            for i in range(20):
                await unit.handlers.on_prediction_made(prediction_made(f"e{i}"), Position("", 0, i))
                await unit.handlers.on_outcome_observed(outcome(f"e{i}", i < 15), Position("", 0, i))
            await unit.record([], {})
        job = asyncio.create_task(update_gauges(SqlMonitoringReader(database, LifetimeNames(loops)), loops, 60))
        async with asyncio.timeout(20):
            while REGISTRY.get_sample_value("everloop_monitoring_label_delay_seconds", DELAY) is None:
                await asyncio.sleep(0)
        job.cancel()

    assert [value("rolling", "accuracy"), value("whole", "recall"), value("whole", "precision")] == [0.75, 1.0, 0.75]
    assert REGISTRY.get_sample_value("everloop_monitoring_label_coverage_ratio", {"loop": LOOP}) == 1.0
