"""Rules for the fields whose groups are compared, and for what the gate requires of a challenger by itself."""

from __future__ import annotations

from collections.abc import Iterator

from everloop_metrics import ERRORS
from everloop_registry.domain.metric_ranges import METRIC_RANGES
from everloop_schemas.conditions import Condition
from everloop_schemas.loop import METRICS, LoopSpec
from everloop_shared.errors import FieldError

MAX_FIELDS = 5
"""The fields whose groups are compared; each is counted for every prediction of an outcome."""
FAIRNESS_RANGES: dict[str, float] = {
    "demographic_parity": 1,
    "equal_opportunity": 1,
    "equalised_odds": 1,
    "calibration": 2,
}
"""By measure, the largest difference between two groups; the smallest is 0."""


def check_fairness(spec: LoopSpec) -> Iterator[FieldError]:
    """What is wrong with `monitor.fairness`."""
    named, path = spec.monitor.fairness, "monitor.fairness"
    if not named:
        return
    if spec.task != "binary":
        reason = f"compares how often groups are predicted true, and a {spec.task} loop predicts no true; remove it"
        yield FieldError(path, reason)
    elif len(named) > MAX_FIELDS:
        yield FieldError(path, f"has {len(named)} fields; at most {MAX_FIELDS}, as each outcome is counted for each")
    elif len(set(named)) < len(named):
        yield FieldError(path, "names a field twice; name each once")
    else:
        for i, name in enumerate(named):
            if name not in spec.feature_names:
                fix = "add it to features, as outcomes hold features only"
                yield FieldError(f"{path}.{i}", f"names {name!r:.40}, which is no feature of the loop; {fix}")


def check_requirements(spec: LoopSpec) -> Iterator[FieldError]:
    """What is wrong with `gate.require`."""
    for i, text in enumerate(spec.gate.require):
        condition = Condition.parse(text)
        error = _error_of_measure(spec, condition) or _error_of_bound(condition)
        if error:
            yield FieldError(f"gate.require.{i}", error)


def _error_of_measure(spec: LoopSpec, condition: Condition) -> str | None:
    known = METRICS[spec.task]
    if condition.fairness is None and condition.measure not in known:
        return f"names {condition.measure:.40}, which is no metric of a {spec.task} loop; use one of {', '.join(known)}"
    return error_of_groups(spec, condition)


def error_of_groups(spec: LoopSpec, condition: Condition) -> str | None:
    """What is wrong with the field whose groups a condition compares, if it compares any."""
    if condition.fairness is not None and condition.fairness[0] not in spec.monitor.fairness:
        name = condition.fairness[0]
        return f"names groups of {name:.40}, which are not compared; add {name:.40} to monitor.fairness"
    return None


def _error_of_bound(condition: Condition) -> str | None:
    measure, is_error = condition.measure, condition.fairness is not None or condition.measure in ERRORS
    wanted = "<=" if is_error else ">="
    if condition.comparison not in (wanted, wanted[0]):
        better = "less" if is_error else "more"
        return f"asks for a worse model: {better} {measure} is better; write {measure} {wanted} {condition.bound:g}"
    return error_of_range(condition)


def error_of_range(condition: Condition) -> str | None:
    """What is wrong with a bound that its measure never has."""
    measure = condition.measure
    low, high = (0.0, FAIRNESS_RANGES[condition.fairness[1]]) if condition.fairness else METRIC_RANGES[measure]
    if not low <= condition.bound <= high:
        return f"has a bound that {measure} never has; it is from {low:g} to {high:g}"
    return None
