"""Monitoring as a whole: events in, counts, events and answers out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.builders.events import (
    dead_letter,
    model_promoted,
    observation,
    prediction_made,
    rest_observation,
    run_requested,
    search_finished,
    search_requested,
)
from tests.builders.loops import LOOP, NOW, live_version
from tests.databases import database_url
from tests.monitoring.monitoring_service import MODEL, RunningMonitoring, labels, outcome, running, state

from everloop_learning.version import line_of
from everloop_monitoring.adapters.unit_of_work import BatchUnitOfWork
from everloop_monitoring.app import MIGRATIONS
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected, EvaluationUpdated
from everloop_schemas.serving import Shadow
from everloop_shared.database import Database
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position

pytestmark = [pytest.mark.app, pytest.mark.usefixtures("databases")]


async def test_a_duplicate_is_counted_once(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state())
        for _ in range(3):
            await monitoring.publish(observation("a"), rest_observation("b"), observation("b"))
            await monitoring.publish(prediction_made("a"), prediction_made("b"), outcome("a", True), dead_letter(1))

        s = await monitoring.status()

    assert (s["events"], s["predictions"], s["outcomes"], s["dead_letters"]) == (2, 2, 1, 1)


async def test_a_status_counts_what_was_published_before_the_request(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path, settle_s=0.1) as monitoring:
        await monitoring.publish(state())
        await monitoring.publish(*[prediction_made(f"{i}") for i in range(300)])

        immediate = await monitoring.get("status")

    assert immediate["predictions"] == 300


async def test_the_status_has_what_the_command_prints(tmp_path: Path) -> None:
    broker = MemoryBroker()
    candidate = live_version("tree-9@9")
    run = run_requested("logistic-0", trigger="initial")
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(candidate=candidate, stage="canary", share=0.25))
        await monitoring.publish(run, model_promoted(MODEL))
        await monitoring.publish(outcome("a", True), outcome("b", False))

        s = await monitoring.status()

    assert s == {
        "team": None,
        "events": 0,
        "predictions": 0,
        "outcomes": 2,
        "dead_letters": 0,
        "champion": {"version": MODEL, "since": NOW.isoformat(), "serving": {}},
        "rollout": {"stage": "canary", "share": 0.25, "candidate": "tree-9@9", "approval": None},
        "accuracy": {"served": 0.5, "rolling": 0.5, "no_change": 0.0, "majority": 0.0},
        "metric": {"name": "accuracy", "served": 0.5, "rolling": 0.5, "no_change": 0.0, "majority": 0.0},
        "drifts": 0,
        "runs": 1,
        "versions": 1,
        "promotions": 1,
        "rollbacks": 0,
    }


async def test_an_outcome_waits_for_the_state_of_its_loop(tmp_path: Path) -> None:
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(outcome("a", True))
        unknown = await monitoring.http.get(f"/v1/loops/{LOOP}/status")
        await monitoring.publish(state())

        s = await monitoring.status()

    assert unknown.status_code == 404
    assert (s["outcomes"], s["dead_letters"]) == (1, 0)


async def test_evaluations_cover_every_outcome_once_in_pieces_of_a_hundred(tmp_path: Path) -> None:
    broker = MemoryBroker()
    shadow = Shadow(version="tree-9@9", prediction=False)
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), *(outcome(f"e{i}", True) for i in range(150)))
        await monitoring.publish(*(outcome(f"f{i}", i % 2 == 0, shadows=[shadow]) for i in range(150)))
        await monitoring.caught_up()
        lines = {v["version"]: v for v in (await monitoring.get("evaluation"))["lines"]}

    events = [e for e in broker.events(EvaluationUpdated.topic) if isinstance(e, EvaluationUpdated)]
    assert [o for e in events for o in e.data.offsets] == list(range(300))
    assert max(len(e.data.offsets) for e in events) <= 100
    assert len({e.id for e in events}) == len(events)
    assert events[-1].data.outcomes == 300
    assert events[-1].data.losses[line_of(MODEL)][-2:] == (0.0, 1.0)
    assert events[-1].data.losses["tree-9"][-2:] == (1.0, 0.0)
    assert (lines[MODEL]["outcomes"], lines[MODEL]["score"]) == (300, 0.75)
    assert (lines["tree-9@9"]["outcomes"], lines["tree-9@9"]["served"]) == (150, 0)


async def test_a_correction_changes_the_score_and_not_the_count(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), outcome("a", True), outcome("b", True))
        before = await monitoring.status()
        await monitoring.publish(outcome("a", False, correction=1), outcome("a", False, correction=1))

        after = await monitoring.status()

    assert (before["outcomes"], before["accuracy"]["served"]) == (2, 1.0)
    assert (after["outcomes"], after["accuracy"]["served"]) == (2, 0.5)


async def test_a_restarted_service_continues_bit_for_bit(tmp_path: Path) -> None:
    log = labels(5, (900, 0.15), (300, 0.55))
    whole, broken = MemoryBroker(), MemoryBroker()
    async with running(whole, tmp_path / "whole") as monitoring:
        await monitoring.publish(state(), *log)
        await monitoring.caught_up()
        expected = await _everything(monitoring)

    for part in (log[:333], log[333:950], log[950:]):
        async with running(broken, tmp_path / "broken") as monitoring:
            await monitoring.publish(state(), *part)
            await monitoring.caught_up()
            seen = await _everything(monitoring)

    assert seen == expected
    assert [e.data for e in broken.events(DriftDetected.topic)] == [e.data for e in whole.events(DriftDetected.topic)]


async def _everything(monitoring: RunningMonitoring) -> dict[str, Any]:
    drop = {"time", "first", "last"}
    evaluation = await monitoring.get("evaluation")
    evaluation["lines"] = [{k: v for k, v in row.items() if k not in drop} for row in evaluation["lines"]]
    series = [{k: v for k, v in row.items() if k not in drop} for row in await monitoring.get("series")]
    return {"status": await monitoring.get("status"), "evaluation": evaluation, "series": series}


async def test_a_lost_database_is_rebuilt_from_the_log(tmp_path: Path) -> None:
    broker = MemoryBroker()
    events = [state(), *labels(2, (300, 0.2)), *(observation(f"e{i}") for i in range(300))]
    async with running(broker, tmp_path / "first") as monitoring:
        await monitoring.publish(*events)
        before = await monitoring.status()
    broker.committed.clear()

    async with running(broker, tmp_path / "second") as monitoring:
        after = await monitoring.status()

    assert after == before


async def test_a_batch_rolled_back_leaves_nothing(tmp_path: Path) -> None:
    async def add(unit: BatchUnitOfWork, id: str, failure: Exception | None = None) -> None:
        async with unit:
            event = OutcomeObserved.decode(outcome(id, True).encode())
            await unit.handlers.on_outcome_observed(event, Position(event.topic.name))
            await unit.record([], {})
            if failure:
                raise failure

    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        unit = BatchUnitOfWork(database)
        unit.handlers.loops.apply(state())

        with pytest.raises(ZeroDivisionError):
            await add(unit, "a", ZeroDivisionError())
        await add(unit, "b")

        async with unit:
            evaluated, counted = await unit.handlers.projections.load_evaluation(LOOP, ["a", "b"])
            rows = {t: await unit.connection.scalar(text(f"select count(*) from {t}")) for t in ("seen", "outbox")}
    assert (evaluated.outcomes, set(counted)) == (1, {"b"})
    assert rows == {"seen": 1, "outbox": 1}


async def test_the_curves_have_a_point_every_fifty_labels(tmp_path: Path) -> None:
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state(), *labels(0, (220, 0.0)))
        await monitoring.caught_up()
        series = await monitoring.get("series")

    assert [p["outcomes"] for p in series] == [50, 100, 150, 200]
    assert {(p["served"], p["champion"]) for p in series} == {(1.0, MODEL)}


async def test_the_console_is_one_page_without_requests_to_other_hosts(tmp_path: Path) -> None:
    async with running(MemoryBroker(), tmp_path) as monitoring:
        page = await monitoring.http.get("/")
        loops = await monitoring.http.get("/v1/loops")

    assert page.status_code == 200
    assert "//" not in page.text.replace("http://www.w3.org/2000/svg", "")
    assert loops.json() == {"loops": []}


async def test_outcomes_at_the_edge_of_a_double_leave_the_batch_and_the_scores_intact(tmp_path: Path) -> None:
    huge, broker = 1.7976931348623157e308, MemoryBroker(partitions=1)
    sizes = state("size", spec={"task": "regression"})
    labels: list[Scalar] = [5.0, huge, -huge, huge, -huge, 5.0]
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), sizes)
        await monitoring.publish(
            *[outcome(f"n{i}", label, prediction=5.0, loop="size") for i, label in enumerate(labels)]
        )
        await monitoring.publish(outcome("a", True), outcome("n1", 5.0, prediction=5.0, loop="size", correction=1))
        await monitoring.caught_up()
        status, other = await monitoring.get("status", "size"), await monitoring.get("status")

    assert (status["outcomes"], other["outcomes"], status["dead_letters"]) == (6, 1, 0)
    assert all(math.isfinite(score) for score in status["accuracy"].values())


async def test_an_outcome_that_cannot_be_evaluated_is_a_dead_letter_and_the_rest_of_its_batch_counts(
    tmp_path: Path,
) -> None:
    broker = MemoryBroker(partitions=1)
    sizes = state("size", spec={"task": "regression"})
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), sizes)
        await monitoring.publish(*[outcome(f"a{i}", True) for i in range(40)])
        await monitoring.publish(outcome("bad", "banana", prediction=5.0, loop="size"))
        await monitoring.publish(*[outcome(f"n{i}", 4.0, prediction=5.0, loop="size") for i in range(40)])
        await monitoring.caught_up()
        status, other = await monitoring.get("status", "size"), await monitoring.get("status")

    assert (status["outcomes"], other["outcomes"], status["dead_letters"]) == (40, 40, 1)
    assert status["accuracy"]["served"] == 1.0


async def test_the_timeline_tells_what_a_search_tries_and_what_it_found(tmp_path: Path) -> None:
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state())
        await monitoring.publish(search_requested("s1"), search_finished("s1"))
        await monitoring.publish(search_finished("s2", state="failed", reason="its process was ended", score=None))
        await monitoring.caught_up()

        entries = {e["id"]: e for e in await monitoring.get("timeline")}

    assert entries["requested-s1"]["what"] == "search for models.0: 20 trials by accuracy on market@0..99#1"
    assert entries["finished-s1"]["what"] == "search improved after 20 trials: accuracy 0.9, 0.8 before"
    assert entries["finished-s1"]["why"] == "l2 0.1"
    assert entries["finished-s2"]["what"] == "search failed after 20 trials"
    assert entries["finished-s2"]["why"] == "its process was ended"
