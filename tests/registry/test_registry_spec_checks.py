"""A spec is tried in a child process: what it costs and what it breaks stays there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.registry.registry_harness import LOOP_FILE, YAML, market_spec, registry

from everloop_registry.adapters.spec_checks import ChildProcessSpecChecks
from everloop_schemas.loop import LoopSpec
from everloop_shared.messaging.memory import MemoryBroker

ENDLESS: dict[str, Any] = {
    "task": "binary",
    "schema": {f"f{i}": {"type": "number"} for i in range(100)},
    "models": [{"estimator": "river.facto.HOFMClassifier", "degree": 40}],
}
"""Every combination of 40 columns, worked out in one call: within its bounds, and never done."""


@pytest.fixture
async def checks() -> AsyncIterator[ChildProcessSpecChecks]:
    """The checks as the service has them."""
    async with ChildProcessSpecChecks() as limited:
        await limited.check(market_spec())  # it has imported its libraries
        yield limited


def many(n: int, **feature: Any) -> LoopSpec:
    """The market loop with so many features of a kind."""
    return market_spec(features=[{"name": f"w{i}", **feature} for i in range(n)])


async def test_a_sound_spec_passes(checks: ChildProcessSpecChecks) -> None:
    windows = [{"name": f, f: "price", "over": "1000 events"} for f in ("mean", "std", "min", "max", "count")]
    models = [{"preset": p} for p in ("logistic", "naive_bayes", "hoeffding_tree", "adaptive_forest")]

    assert await checks.check(market_spec(features=windows, models=models)) == []


async def test_errors_of_features_and_models_are_reported_together(checks: ChildProcessSpecChecks) -> None:
    bad = market_spec(features=[{"name": "x", "expr": "price - gone"}], models=[{"preset": "linear"}])

    wrong = await checks.check(bad)

    assert [e.field for e in wrong] == ["features.0.expr", "models.0.preset"]


async def test_a_batch_line_is_checked_without_its_library() -> None:
    models = [
        {"preset": "logistic"},
        {"estimator": "sklearn.ensemble.HistGradientBoostingClassifier", "window": "20000 outcomes", "max_iter": 200},
        {"estimator": "sklearn.ensemble.RandomForestClassifier", "n_estimators": 1_000_000},
        {"estimator": "xgboost.XGBClassifier"},
        {"trainer": "pytorch", "layers": 3},
    ]

    async with ChildProcessSpecChecks("sklearn") as checks:
        wrong = await checks.check(market_spec(models=models))

    assert [(e.field, e.error.partition(":")[0]) for e in wrong] == [
        ("models.2.n_estimators", "must be a whole number from 1 to 2,000"),
        ("models.3.estimator", "xgboost.XGBClassifier is not allowed here by EVERLOOP_TRAINING_ALLOW"),
    ]


@pytest.mark.parametrize(
    ("feature", "says"),
    [
        ({"mean": "price", "over": "10000 events"}, "271 ms"),
        ({"std": "price", "over": "1d"}, "ms per event"),
    ],
)
async def test_a_spec_that_costs_seconds_per_event_is_refused_with_what_costs_most(
    checks: ChildProcessSpecChecks, feature: dict[str, Any], says: str
) -> None:
    started = time.monotonic()

    [wrong] = await checks.check(many(900, **feature))

    assert wrong.field == "features"
    assert says in wrong.error
    assert "most by w0" in wrong.error
    assert time.monotonic() - started < 10


async def test_a_model_that_never_ends_is_ended_and_the_next_spec_checked(checks: ChildProcessSpecChecks) -> None:
    started = time.monotonic()

    [wrong] = await checks.check(LoopSpec.model_validate({"loop": "x", **ENDLESS}))

    assert wrong.field == "models"
    assert "longer than 1 s of computing" in wrong.error
    assert time.monotonic() - started < 10
    assert await checks.check(market_spec()) == []


async def test_a_thousand_wrong_features_are_fifty_short_errors(checks: ChildProcessSpecChecks) -> None:
    fields = {f"{'f' * 50}{i}": {"type": "number"} for i in range(1000)}
    wrong = await checks.check(
        market_spec(schema=fields, features=[{"name": f"x{i}", "expr": f"gone{i}"} for i in range(1000)])
    )

    assert len(wrong) <= 51
    assert all(len(e.error) <= 250 for e in wrong)


@pytest.mark.app
@pytest.mark.usefixtures("databases")
async def test_while_a_spec_is_tried_out_other_loops_are_served_at_once(tmp_path: Path) -> None:
    async with registry(MemoryBroker(), tmp_path) as client:
        assert (await _put(client, "market", LOOP_FILE)).status_code == 201
        slow = [asyncio.create_task(_put(client, "slow", json.dumps({"loop": "slow", **ENDLESS}))) for _ in range(3)]
        await asyncio.sleep(0.1)  # they are at it, a second each

        answers = await asyncio.gather(
            _put(client, "market", LOOP_FILE),
            client.get("/market"),
            client.get("/market/versions"),
            client.post("/market/resume", json={"reason": "all is well"}),
        )

        assert [a.status_code for a in answers] == [200] * 4
        assert not slow[-1].done()
        assert [(await s).status_code for s in slow] == [422] * 3


async def _put(client: httpx.AsyncClient, loop: str, text: str) -> httpx.Response:
    return await client.put(f"/{loop}", content=text, headers=YAML)
