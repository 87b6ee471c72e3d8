"""Rules for the features of a spec that is applied: each can be computed, and all of them within an event's budget."""

from __future__ import annotations

from everloop_features import EVENT_BUDGET_US, FeaturePlan, FeaturesRejected, compile_features, event_costs
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import FieldError

MAX_NAMED_FEATURES = 3
"""The number of features that an error names when features cost too much: the most expensive ones."""


def compile_within_budget(spec: LoopSpec) -> tuple[FeaturePlan | None, list[FieldError]]:
    """The plan and no errors, or None and what is wrong with each feature."""
    try:
        plan = compile_features(spec)
    except FeaturesRejected as e:
        return None, list(e.errors)
    wrong = _budget_errors(plan)
    return (None if wrong else plan), wrong


def _budget_errors(plan: FeaturePlan) -> list[FieldError]:
    costs = event_costs(plan)
    total = sum(costs.values())
    if total <= EVENT_BUDGET_US:
        return []
    costliest = sorted(costs, key=costs.__getitem__, reverse=True)[:MAX_NAMED_FEATURES]
    named = ", ".join(f"{name} {costs[name] / 1000:.3g} ms" for name in costliest)
    limit = f"the limit is {EVENT_BUDGET_US / 1000:g} ms; most by {named}"
    return [FieldError("features", f"take {total / 1000:,.0f} ms per event with full windows; {limit}")]
