"""What a diff says is kept is what the six services then keep: windows by value, lines by name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.builders.running import until
from tests.everloop.memory_bus.six_services import ask, installation

from everloop.memory_bus.app import run
from everloop_schemas.feature import FeaturesComputed, OutcomeObserved
from everloop_schemas.training import ChallengeUpdated, RunRequested
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.service import Service

pytestmark = [pytest.mark.app, pytest.mark.timeout(180)]
LOOP = "/v1/loops/shop"
FOREST = {"preset": "adaptive_forest", "trees": 2}
BEFORE: dict[str, Any] = {
    "loop": "shop",
    "task": "binary",
    "schema": {"x": {"type": "number"}, "y": {"type": "number"}},
    "features": [
        {"name": "shorter", "sum": "x", "over": "6 events"},
        {"name": "longer", "sum": "y", "over": "3 events"},
        {"name": "gone", "mean": "y", "over": "60s"},
        {"fields": ["x"]},
    ],
    "models": [{"preset": "logistic"}, FOREST, {"preset": "naive_bayes"}],
}
AFTER: dict[str, Any] = {
    **BEFORE,
    "features": [
        {"name": "shorter", "sum": "x", "over": "4 events"},
        {"name": "longer", "sum": "y", "over": "9 events"},
        {"name": "empty", "sum": "x", "over": "60s"},
        {"fields": ["x"]},
    ],
    "models": [{"preset": "logistic"}, {**FOREST, "trees": 3}, {"preset": "hoeffding_tree"}],
}
ROWS = 40


async def test_kept_windows_go_on_with_their_values_and_kept_lines_with_their_names(tmp_path: Path) -> None:
    broker = MemoryBroker()
    services, stop = installation(broker, tmp_path), asyncio.Event()
    running = asyncio.create_task(run(list(services.values()), stop))
    try:
        await until(lambda: running.done() or not any(s.not_ready() for s in services.values()), 30)
        await apply(services, BEFORE, 1)
        await live(broker, services, 0, ROWS)
        await until(lambda: len(runs(broker)) == 3)

        said = await diff_naming(services, {"logistic-0", "adaptive-forest-0", "naive-bayes-0"})
        await apply(services, AFTER, 2)
        await live(broker, services, ROWS, ROWS)
        await until(lambda: {"hoeffding-tree-0"} <= lines(broker)[-1])
        again = await diff_naming(services, lines(broker)[-1])
    finally:
        stop.set()
        await asyncio.wait([running])
    running.result()

    first = next(e.data.features for e in broker.events(FeaturesComputed.topic) if e.data.prediction_id == f"r{ROWS}")
    features = {each["feature"]: each["state"] for each in said["features"]}
    assert features == {"shorter": "kept", "longer": "fills_up", "empty": "starts_empty", "x": "kept", "gone": "ends"}
    assert first["shorter"] == sum(x_of(i) for i in range(ROWS - 3, ROWS + 1)), "the four last, of both revisions"
    assert first["longer"] == sum(y_of(i) for i in range(ROWS - 3, ROWS + 1)), "the three that were kept and this one"
    assert first["empty"] == x_of(ROWS), "this one alone"

    by_state: dict[str, set[str | None]] = {}
    for each in said["lines"]:
        by_state.setdefault(each["state"], set()).add(each["line"] or each["model"])
    before, after = {*runs(broker)[:3]}, {*runs(broker)[3:]}
    assert before == {"logistic-0", "adaptive-forest-0", "naive-bayes-0"}
    assert by_state == {
        "kept": {"logistic-0"},
        "retrained": {"adaptive-forest"},
        "new": {"hoeffding-tree"},
        "ends": {"adaptive-forest-0", "naive-bayes-0"},
    }
    assert after == {"adaptive-forest.2-0", "hoeffding-tree-0"}, "a run for each retrained and each new line"
    assert lines(broker)[-1] == by_state["kept"] | after
    assert {each["line"]: each["state"] for each in again["lines"]} == dict.fromkeys(lines(broker)[-1], "kept")
    assert (said["change"], again["change"]) == ("changed", "unchanged")


async def apply(services: dict[str, Service], spec: dict[str, Any], revision: int) -> None:
    """Apply a spec, and wait until ingest, feature and serving use it."""
    applied = await ask(services, "registry", "PUT", LOOP, spec)
    assert applied.json().get("revision") == revision, applied.text
    for service in ("ingest", "feature", "serving"):
        while (known := await ask(services, service, "GET", LOOP, None)).json().get("revision") != revision:
            assert known.status_code in (200, 404), known.text
            await asyncio.sleep(0.01)


async def diff_naming(services: dict[str, Service], lines: set[str]) -> dict[str, Any]:
    """The diff of the second spec, once the registry has read the requests of the runs that name these lines."""
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        said: dict[str, Any] = (await ask(services, "registry", "POST", f"{LOOP}/diff", AFTER)).json()
        if lines <= {each["line"] for each in said["lines"]}:
            return said
        assert asyncio.get_running_loop().time() < deadline, f"the lines {lines} are not named: {said}"
        await asyncio.sleep(0.01)


async def live(broker: MemoryBroker, services: dict[str, Service], start: int, count: int) -> None:
    """Send observations of one entity with their labels, and wait for their outcomes."""
    numbers = range(start, start + count)
    events = [{"id": f"r{i}", "entity": "one", "data": {"x": x_of(i), "y": y_of(i)}} for i in numbers]
    labels = [{"id": f"r{i}", "label": i % 3 == 0} for i in numbers]
    for endpoint, rows in (("events", events), ("labels", labels)):
        answer = await ask(services, "ingest", "POST", f"{LOOP}/{endpoint}", rows)
        assert answer.status_code == 202, answer.text
    await until(lambda: len(broker.events(OutcomeObserved.topic)) == start + count, 60)


def x_of(number: int) -> float:
    """The field x of an observation."""
    return float(number % 11)


def y_of(number: int) -> float:
    """The field y."""
    return float(number % 13)


def runs(broker: MemoryBroker) -> list[str]:
    """The lines that were begun for models of the spec, in order."""
    return [e.data.line for e in broker.events(RunRequested.topic) if e.data.trigger == "initial"]


def lines(broker: MemoryBroker) -> list[set[str]]:
    """The lines at work in each report of losses."""
    return [{line.line for line in e.data.lines} for e in broker.events(ChallengeUpdated.topic)] or [set()]
