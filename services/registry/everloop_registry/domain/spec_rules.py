"""Rules for a spec that is applied, beyond its form; a spec on the log is read back without them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from everloop_registry.domain.alert_rules import check_alerts, check_objectives
from everloop_registry.domain.fairness_rules import check_fairness, check_requirements
from everloop_registry.domain.metric_ranges import METRIC_RANGES
from everloop_registry.domain.monitor_rules import check_drift, check_expectations
from everloop_registry.domain.personal_rules import check_personal
from everloop_registry.domain.retention_rules import check_retention
from everloop_registry.domain.search_rules import check_search
from everloop_registry.domain.slice_rules import check_slices
from everloop_registry.domain.source_rules import check_sources
from everloop_registry.domain.value_rules import check_values, shorten
from everloop_schemas.cron import Cron
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FieldSpec, RolloutSpec
from everloop_schemas.quantities import MAX_DURATION_S, parse_duration_s
from everloop_shared.errors import FieldError

MAX_SHARES = 20
MAX_PARAMETERS = 50
MAX_CRON_CHARACTERS = 200
MAX_EXPRESSION_CHARACTERS = 20_000
"""Of all features together: every event is computed with all of them."""
MIN_DURATION_S = 0.001
MAX_CONFIDENCE = 0.9999
"""The gate would hardly ever reach more."""
MIN_SHARE = 0.001
MAX_COUNT = 10_000_000
"""Of labels or feedback until a retraining."""
INTEGER_LIMIT = 2**63
UNSUPPORTED: dict[str, tuple[Any, str]] = {}
"""By path, a field that no code reads yet: the value that describes what happens, and what happens.

Specs on the log may hold such a field, so the class reads it back; `apply` refuses every other value.
"""


def unsupported_fields(raw: Mapping[str, Any]) -> Iterator[FieldError]:
    """Each field of a loop file that asks for what does not work yet."""
    for path, (harmless, what_happens) in UNSUPPORTED.items():
        part, _, name = path.partition(".")
        values = raw.get(part) if name else raw
        if isinstance(values, dict) and values.get(name or part, harmless) != harmless:
            yield FieldError(path, f"does not work yet: {what_happens}; remove it")


def broken_rules(spec: LoopSpec) -> Iterator[FieldError]:
    """Each value that would break something later, by dotted path, with the fix."""
    for name, field in spec.fields.items():
        yield from _check_field(f"schema.{name}", field)
    if (length := sum(len(f.expr or "") for f in spec.features)) > MAX_EXPRESSION_CHARACTERS:
        limit = f"at most {MAX_EXPRESSION_CHARACTERS:,}, as every event is computed with all of them"
        yield FieldError("features", f"have {length:,} characters of expr in all; {limit}")
    yield from _check_durations(spec)
    yield from check_retention(spec)
    yield from _check_classes(spec)
    yield from _check_retrain(spec)
    yield from _check_rollout(spec)
    yield from check_sources(spec)
    yield from check_search(spec)
    yield from check_drift(spec)
    yield from check_expectations(spec)
    yield from check_fairness(spec)
    yield from check_requirements(spec)
    yield from check_slices(spec)
    yield from check_alerts(spec)
    yield from check_objectives(spec)
    yield from check_personal(spec)
    for i, model in enumerate(spec.models):
        if len(model.parameters) > MAX_PARAMETERS:
            yield FieldError(f"models.{i}", f"has {len(model.parameters)} parameters; at most {MAX_PARAMETERS}")


def _check_field(path: str, field: FieldSpec) -> Iterator[FieldError]:
    low, high = field.min, field.max
    if field.type == "integer":
        yield from _check_whole_bounds(path, low, high)
    if field.enum is None:
        return
    yield from check_values(f"{path}.enum", field.enum, field.type)
    for value in field.enum:
        if isinstance(value, int | float) and not ((low is None or low <= value) and (high is None or value <= high)):
            yield FieldError(f"{path}.enum", f"has {shorten(value)}, which lies outside min and max; leave it out")
            return


def _check_whole_bounds(path: str, low: float | None, high: float | None) -> Iterator[FieldError]:
    lowest = -INTEGER_LIMIT if low is None else max(-INTEGER_LIMIT, math.ceil(low))
    highest = INTEGER_LIMIT - 1 if high is None else min(INTEGER_LIMIT - 1, math.floor(high))
    if lowest > highest:
        yield FieldError(f"{path}.min", "leaves no whole number of 64 bits up to max; widen the bounds")


def _check_classes(spec: LoopSpec) -> Iterator[FieldError]:
    classes = spec.label.classes
    if spec.label_type == "integer":
        yield from _check_whole_bounds("label", *spec.label_bounds)
    if classes is None:
        return
    wrong = list(check_values("label.classes", classes, spec.label_type))
    yield from wrong
    if not wrong and len(classes) < 2:
        yield FieldError("label.classes", "has one class; name two at least, or leave it out")


def _check_durations(spec: LoopSpec) -> Iterator[FieldError]:
    durations = [("label.within", spec.label.within), ("rollout.approval_within", spec.rollout.approval_within)]
    for i, feature in enumerate(spec.features):
        if feature.over and "event" not in feature.over:
            durations.append((f"features.{i}.over", feature.over))
    if spec.retention.personal is not None:
        durations.append(("retention.personal", spec.retention.personal))
    for path, text in durations:
        if not MIN_DURATION_S <= parse_duration_s(text) <= MAX_DURATION_S:
            yield FieldError(path, f"must be from 1 ms to {MAX_DURATION_S / 86400:,.0f} days, such as 7d")


def _check_retrain(spec: LoopSpec) -> Iterator[FieldError]:
    retrain = spec.retrain
    if spec.refresh.every < 1:
        yield FieldError("refresh.every", "must be 1 outcome at least, such as 100")
    for name in ("on_feedback", "on_labels"):
        if (getattr(retrain, name) or 0) > MAX_COUNT:
            yield FieldError(f"retrain.{name}", f"must be at most {MAX_COUNT:,}")
    low, high = METRIC_RANGES[spec.metric]
    if retrain.below is not None and not low < retrain.below < high:
        bound = f"above {low:g}" if high == math.inf else f"below {high:g}" if low == -math.inf else "between 0 and 1"
        yield FieldError("retrain.below", f"must be {bound} for {spec.metric}, the range of the metric")
    if retrain.on_schedule is not None and len(retrain.on_schedule) > MAX_CRON_CHARACTERS:
        yield FieldError("retrain.on_schedule", f"must have at most {MAX_CRON_CHARACTERS} characters")
    elif retrain.on_schedule is not None and Cron(retrain.on_schedule).next(0) is None:
        yield FieldError("retrain.on_schedule", "names a day that never comes; look at day and month")


def _check_rollout(spec: LoopSpec) -> Iterator[FieldError]:
    if spec.gate.confidence > MAX_CONFIDENCE:
        yield FieldError("gate.confidence", f"must be at most {MAX_CONFIDENCE}; more is never reached")
    if len(spec.rollout.canary) > MAX_SHARES:
        yield FieldError("rollout.canary", f"has {len(spec.rollout.canary)} shares; at most {MAX_SHARES}")
    rollout, none = spec.rollout, RolloutSpec()
    for name in ("approvals", "approval_within"):
        if rollout.approval == "none" and getattr(rollout, name) != getattr(none, name):
            yield FieldError(f"rollout.{name}", "needs rollout.approval: before_canary or before_champion")
    if any(s < MIN_SHARE for s in spec.rollout.canary):
        yield FieldError("rollout.canary", f"has a share below {MIN_SHARE:.1%}, which yields no evidence")
