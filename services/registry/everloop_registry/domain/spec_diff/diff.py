"""A loop as it is, compared with a file that may be applied to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from everloop_features.cost import EVENT_BUDGET_US
from everloop_features.feature_changes import FeatureChange, compare_features, new_features
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.spec_diff.effects import SpecEffect, find_effects
from everloop_registry.domain.spec_diff.fields import FieldChange, compare_fields
from everloop_registry.domain.spec_diff.lines import LineChange, SpecLine, compare_lines, new_lines
from everloop_registry.domain.team_use import feature_cost
from everloop_schemas.loop import LoopSpec


class CostChange(BaseModel):
    """What the features of an event cost with all windows full, in microseconds as counted, and the limit."""

    model_config = ConfigDict(frozen=True)

    before: float | None
    after: float
    limit: float


class LoopDiff(BaseModel):
    """What applying a file would do. `revision` is the loop's now, 0 for a loop that does not exist."""

    model_config = ConfigDict(frozen=True)

    loop: str
    change: Literal["created", "changed", "unchanged"]
    revision: int
    fields: list[FieldChange] = Field(description="what changes in the spec; empty for a new loop")
    features: list[FeatureChange]
    lines: list[LineChange]
    effects: list[SpecEffect]
    cost: CostChange


def compare_specs(loop: Loop | None, after: LoopSpec, known: Sequence[SpecLine]) -> LoopDiff:
    """What applying a sound spec does to a loop, None where there is none; `known` are the lines of its specs."""
    if loop is None:
        return LoopDiff(
            loop=after.loop,
            change="created",
            revision=0,
            fields=[],
            features=new_features(after),
            lines=list(new_lines(after.models)),
            effects=[],
            cost=_cost(None, after),
        )
    is_changed = loop.spec != after
    return LoopDiff(
        loop=after.loop,
        change="changed" if is_changed else "unchanged",
        revision=loop.revision,
        fields=compare_fields(loop.spec, after),
        features=compare_features(loop.spec, after),
        lines=compare_lines(loop, after.models, known),
        effects=list(find_effects(loop, after)) if is_changed else [],
        cost=_cost(loop.spec, after),
    )


def _cost(before: LoopSpec | None, after: LoopSpec) -> CostChange:
    return CostChange(
        before=None if before is None else feature_cost(before), after=feature_cost(after), limit=EVENT_BUDGET_US
    )
