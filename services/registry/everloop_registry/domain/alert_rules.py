"""Rules for a loop's alert rules and objectives, beyond their form."""

from __future__ import annotations

from collections.abc import Iterator

from everloop_registry.domain.fairness_rules import error_of_groups, error_of_range
from everloop_registry.domain.metric_ranges import METRIC_RANGES
from everloop_schemas.conditions import Condition
from everloop_schemas.loop import METRICS, LoopSpec
from everloop_schemas.quantities import MAX_DURATION_S, parse_duration_s
from everloop_shared.errors import FieldError

MIN_WITHIN_S, MAX_WITHIN_S = 0.001, 30 * 86_400.0
"""Of an objective: its budget is one of 30 days."""
MAX_SHARE = 0.99999


def check_alerts(spec: LoopSpec) -> Iterator[FieldError]:
    """Each rule that can never fire or always does, by path, with the fix."""
    seen = set[str]()
    for i, rule in enumerate(spec.alerts):
        path, condition = f"alerts.{i}", Condition.parse(rule.when)
        if rule.alert in seen:
            yield FieldError(f"{path}.alert", f"{rule.alert} is there twice; give each rule a name of its own")
        seen.add(rule.alert)
        if condition.fairness:
            if error := _error_of_groups(spec, condition):
                yield FieldError(f"{path}.when", error)
        elif condition.measure not in METRICS[spec.task]:
            known = ", ".join(METRICS[spec.task])
            yield FieldError(f"{path}.when", f"{condition.measure} is no metric of a {spec.task} loop; use {known}")
        else:
            low, high = METRIC_RANGES[condition.measure]
            if not low <= condition.bound <= high:
                yield FieldError(f"{path}.when", f"{condition.measure} lies between {low:g} and {high:g}")
        if rule.outcomes == 0:
            yield FieldError(f"{path}.for", "must be 1 outcome at least, such as 200 outcomes")
        if rule.seconds is not None and rule.seconds > MAX_DURATION_S:
            yield FieldError(f"{path}.for", f"must be at most {MAX_DURATION_S / 86400:,.0f} days")


def _error_of_groups(spec: LoopSpec, condition: Condition) -> str | None:
    if condition.comparison not in (">", ">="):
        return f"holds where groups are treated alike; write {condition.measure} > {condition.bound:g}"
    return error_of_groups(spec, condition) or error_of_range(condition)


def check_objectives(spec: LoopSpec) -> Iterator[FieldError]:
    """Each objective whose time or share nothing could meet or break, by path, with the fix."""
    said, texts = spec.monitor.objectives, dict[str, str]()
    objectives = {"prediction": said.prediction, "learned": said.learned, "recovered": said.recovered}
    for name, objective in objectives.items():
        if objective is not None:
            path = f"monitor.objectives.{name}"
            texts[f"{path}.within"] = objective.within
            if objective.share > MAX_SHARE:
                yield FieldError(f"{path}.share", f"must be at most {MAX_SHARE:.3%}; more leaves no budget")
    if spec.monitor.latency_p99 is not None:
        texts["monitor.latency_p99"] = spec.monitor.latency_p99
    for path, text in texts.items():
        if not MIN_WITHIN_S <= parse_duration_s(text) <= MAX_WITHIN_S:
            yield FieldError(path, "must be from 1 ms to 30 days, such as 200ms")
