"""The cost of a loop's features per event with all windows full; the same result on every machine."""

from __future__ import annotations

from everloop_features.expression import Expression
from everloop_features.plan import FeaturePlan
from everloop_features.steps import Window

EVENT_BUDGET_US = 20_000
"""Time that the features of one event may take: everything else on the partition waits meanwhile."""
VALUE_NS = {"mean": 30, "sum": 30, "min": 55, "max": 55, "std": 220, "count": 35, "last": 15}
PART_NS = 350
FEATURE_NS = 1_000
"""Measured on one core of 2024. They are constants, so that a spec is accepted or refused on every machine alike."""


def event_costs(plan: FeaturePlan) -> dict[str, float]:
    """Microseconds per event of each computed feature, at most."""
    return {name: _cost_ns(plan, step) / 1000 for name, step in plan.steps}


def _cost_ns(plan: FeaturePlan, step: object) -> float:
    match step:
        case Expression(parts=parts):
            return FEATURE_NS + parts * PART_NS
        case Window(function=function, events=int(events)):
            return FEATURE_NS + events * VALUE_NS.get(function, 0)
        case Window(function=function, length_ms=float()):
            return FEATURE_NS + plan.span_points * VALUE_NS.get(function, 0)
    return FEATURE_NS
