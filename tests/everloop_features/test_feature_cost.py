"""What an event costs is known from the spec alone, before any event comes."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from tests.builders.loops import loop_spec

from everloop_features import EVENT_BUDGET_US, FeaturePlan, State, compile_features, event_costs
from everloop_schemas.envelope import utc_time

NOW = utc_time(1_700_000_000)


def plan_of(*features: dict[str, Any]) -> FeaturePlan:
    """A plan over one number."""
    return compile_features(loop_spec(schema={"a": {"type": "number"}}, features=list(features)))


def full(plan: FeaturePlan) -> State:
    """An entity's state with every window full."""
    rng, now = random.Random(1), round(NOW.timestamp() * 1000)
    return {
        "ring": {f: [rng.random() for _ in range(keep)] for f, keep in plan.rings.items()},
        "span": {
            f: [list(range(now - plan.span_points, now)), [rng.random() for _ in range(plan.span_points)]]
            for f in plan.spans
        },
    }


WINDOWS = [{"name": f, f: "a", "over": "10000 events"} for f in ("mean", "sum", "min", "max", "std", "count")]
CASES: list[list[dict[str, Any]]] = [
    *([w] for w in WINDOWS),
    [{"name": "x", "mean": "a", "over": "1d"}],
    [{"name": "x", "expr": " + ".join(["a * 2"] * 50)}],
]


@pytest.mark.parametrize("features", CASES)
def test_the_cost_is_near_the_measured_time_with_full_windows(features: list[dict[str, Any]]) -> None:
    plan = plan_of(*features)
    state, took = full(plan), []

    for _ in range(15):
        started = time.process_time()
        plan.apply(state, {"a": 1.0}, NOW)
        took.append((time.process_time() - started) * 1e6)

    assert 0.2 < sum(event_costs(plan).values()) / min(took) < 5


def test_a_spec_of_many_long_windows_costs_more_than_an_event_may() -> None:
    windows = [{"name": f"w{i}", "mean": "a", "over": "10000 events"} for i in range(900)]

    assert sum(event_costs(plan_of(*windows)).values()) > EVENT_BUDGET_US


def test_a_dozen_windows_over_days_fit() -> None:
    functions = ("mean", "std", "max", "count")
    windows = [{"name": f"{f}_{d}", f: "a", "over": f"{d}d"} for f in functions for d in (1, 7, 30)]

    assert sum(event_costs(plan_of(*windows)).values()) < EVENT_BUDGET_US
