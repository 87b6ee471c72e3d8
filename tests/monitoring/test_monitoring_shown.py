"""The latest predictions with their labels, and what versions depend on: bounded, each once, as their records say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import model_trained, prediction_made, run_finished
from tests.builders.loops import LOOP
from tests.databases import database_url
from tests.monitoring.monitoring_service import outcome, running, state

from everloop_monitoring.adapters.reader import SqlMonitoringReader
from everloop_monitoring.adapters.row_names import LifetimeNames
from everloop_monitoring.adapters.unit_of_work import BatchUnitOfWork
from everloop_monitoring.app import MIGRATIONS
from everloop_monitoring.domain.shown import (
    MAX_IMPORTANCES,
    MAX_PREDICTIONS,
    MAX_ROW_CHARACTERS,
    PREDICTIONS_PER_BATCH,
    render_prediction,
)
from everloop_schemas.envelope import Event
from everloop_schemas.serving import Explanation, PredictionMade
from everloop_schemas.training import ModelTrained, RunFinished
from everloop_shared.database import Database
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position

EXPLANATION = Explanation(method="linear", of="true", base=0.5, contributions={"price": 1.5})


@pytest.mark.app
async def test_predictions_are_shown_newest_first_with_label_explanation_and_anomaly(
    tmp_path: Path, databases: object
) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state())
        await monitoring.publish(prediction_made("a", True))
        await monitoring.caught_up()
        await monitoring.publish(prediction_made("b", True, explanation=EXPLANATION, anomaly=0.75))
        await monitoring.publish(outcome("a", False), outcome("a", True, correction=1))
        await monitoring.caught_up()

        newest, oldest = await monitoring.get("predictions")
        limited = await monitoring.get("predictions?limit=1")
        too_many = await monitoring.get("predictions?limit=201")
        unknown = await monitoring.get("predictions", "other")

    assert (newest["id"], newest["label"], newest["correct"], newest["anomaly"]) == ("b", None, None, 0.75)
    assert newest["explanation"]["contributions"] == {"price": 1.5}
    assert (oldest["id"], oldest["label"], oldest["correct"]) == ("a", True, True)
    assert [row["id"] for row in limited] == ["b"]
    assert (too_many["status"], unknown["status"]) == (422, 404)


@pytest.mark.app
async def test_a_version_s_predictions_are_counted_by_role_and_shown_in_pages(
    tmp_path: Path, databases: object
) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state())
        for n in range(5):
            await monitoring.publish(prediction_made(f"c{n}", True, version="a-0@9", role="canary"))
            await monitoring.publish(prediction_made(f"p{n}", True, version="a-0@9", role="champion"))
            await monitoring.publish(prediction_made(f"b{n}", True))
        await monitoring.caught_up()

        first = await monitoring.get("versions/a-0@9/predictions?limit=8")
        second = await monitoring.get(f"versions/a-0@9/predictions?limit=8&after={first['next']}")
        canary = await monitoring.get("versions/a-0@9/predictions?role=canary")
        nothing = await monitoring.get("versions/x-0@1/predictions")
        wrong = await monitoring.get("versions/a-0@9/predictions?role=boss")

    assert [(one["role"], one["predictions"]) for one in first["made"]] == [("canary", 5), ("champion", 5)]
    assert first["made"][0]["first"] <= first["made"][0]["last"]
    assert sorted(row["id"] for row in first["latest"] + second["latest"]) == sorted(
        f"{role}{n}" for role in "cp" for n in range(5)
    )
    assert (len(first["latest"]), second["next"]) == (8, None)
    assert {row["id"] for row in canary["latest"]} == {f"c{n}" for n in range(5)}
    assert (canary["made"], nothing["made"], nothing["latest"]) == (first["made"][:1], [], [])
    assert wrong["status"] == 422


async def handle(unit: BatchUnitOfWork, *events: Event) -> None:
    async with unit:
        await unit.handlers.on_loop_state(state(), Position("", 0, 0))
        for event in events:
            if isinstance(event, PredictionMade):
                await unit.handlers.on_prediction_made(event, Position("", 0, 0))
            elif isinstance(event, ModelTrained):
                await unit.handlers.on_model_trained(event, Position("", 0, 0))
            elif isinstance(event, RunFinished):
                await unit.handlers.on_run_finished(event, Position("", 0, 0))
        await unit.record([], {})


async def test_rows_are_bounded_whatever_the_records_are(tmp_path: Path, databases: object) -> None:
    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        unit = BatchUnitOfWork(database)
        reader = SqlMonitoringReader(database, LifetimeNames(unit.handlers.loops))

        await handle(unit, *(prediction_made(f"first-{i}") for i in range(500)))
        first = await reader.latest_predictions(LOOP, 1_000)
        for batch in range(30):
            await handle(unit, *(prediction_made(f"{batch}-{i}") for i in range(PREDICTIONS_PER_BATCH)))
            await handle(unit, *(prediction_made(f"{batch}-{i}") for i in range(PREDICTIONS_PER_BATCH)))
        later = await reader.latest_predictions(LOOP, 1_000)
        for n in range(MAX_IMPORTANCES + 5):
            await handle(unit, trained(n, {"price": 0.75, "demand": 0.25}), trained(1_000 + n, None))
        versions = await reader.importances(LOOP, 1_000)
        await handle(
            unit, run_finished("notebook", version="notebook@99", importance={"price": 1.0}), run_finished("x")
        )
        [submitted, *_] = await reader.importances(LOOP, 1_000)

    assert submitted == ("notebook@99", {"price": 1.0})
    assert [row["id"] for row, _ in first] == [f"first-{i}" for i in range(499, 479, -1)]
    assert MAX_PREDICTIONS <= len(later) <= MAX_PREDICTIONS + 100
    assert later[0][0]["id"] == f"29-{PREDICTIONS_PER_BATCH - 1}"
    assert len({row["id"] for row, _ in later}) == len(later)
    assert [version for version, _ in versions[:2]] == ["logistic-0@54", "logistic-0@53"]
    assert len(versions) == MAX_IMPORTANCES
    assert list(versions[0][1].items()) == [("price", 0.75), ("demand", 0.25)]


def trained(offset: int, importance: dict[str, float] | None) -> ModelTrained:
    return model_trained("logistic-0", offset, importance=importance)


@pytest.mark.parametrize("features", [{"text": "\0" * 10_000}, {f"f{n}": 1.5 for n in range(3_000)}])
def test_a_prediction_too_long_to_keep_is_kept_without_its_features(features: dict[str, Any]) -> None:
    row = render_prediction(prediction_made("a", True, features=features, explanation=EXPLANATION))

    assert len(row) < MAX_ROW_CHARACTERS
    assert '"features":{}' in row
    assert '"prediction":true' in row
