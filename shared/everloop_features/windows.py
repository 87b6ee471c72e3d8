"""Windows over a field: the values that are kept, and the functions over them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from everloop_features.numbers import finite, numbers
from everloop_schemas.envelope import Scalar

Value = Scalar | None
Ring = list[Value]
"""The values of the last events, oldest first; None is an event where the field was missing."""
Points = tuple[list[int], list[Value]]
"""Event times (ms since the epoch, ascending) and the values then; missing values are not kept."""

SCALE = 2.0**-700
"""Brings the largest doubles down to where the sum of ten thousand squares is finite."""


def push(ring: Sequence[Value], value: Value, keep: int) -> Ring:
    """The ring after one more event, no longer than `keep`."""
    return [*ring, value][-keep:]


def insert(points: Points, at_ms: int, value: Value) -> Points:
    """The points with one more, in order of event time; a missing value changes nothing."""
    if value is None:
        return points
    times, values = points
    i = bisect_right(times, at_ms)
    return [*times[:i], at_ms, *times[i:]], [*values[:i], value, *values[i:]]


def between(points: Points, at_ms: int, length_ms: float) -> list[Value]:
    """The values in the window of `length_ms` that ends with `at_ms`, its start left out."""
    times, values = points
    return values[bisect_right(times, at_ms - length_ms) : bisect_right(times, at_ms)]


def prune(points: Points, length_ms: float, most: int, now_ms: float) -> Points:
    """The points that a later window can still need, at most `most`: within `length_ms` of the second newest.

    Not of the newest, nor of a time after now, so that one event with a wrong time does not empty the window.
    """
    times, values = points
    if len(times) < 2:
        return points
    start = max(bisect_right(times, min(times[-2], now_ms) - length_ms), len(times) - most)
    return times[start:], values[start:]


def _last(values: Sequence[Value]) -> Value:
    return next((v for v in reversed(values) if v is not None), None)


def _mean(values: Sequence[int | float]) -> float:
    return math.fsum(values) / len(values)


def _std(values: Sequence[int | float]) -> float:
    """The population's standard deviation: 0 for a single value."""
    mean = _mean(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))


def _scaled(function: Callable[[Sequence[int | float]], int | float], values: Sequence[int | float]) -> float:
    """A mean or deviation that fits a double though its sums do not: computed on scaled values, and scaled back."""
    return float(function([v * SCALE for v in values]) / SCALE)


_OF_NUMBERS: dict[str, Callable[[Sequence[int | float]], int | float]] = {
    "mean": _mean,
    "sum": math.fsum,
    "min": min,
    "max": max,
    "std": _std,
}


def summary(function: str, values: Sequence[Value]) -> Value:
    """mean, sum, min, max, std, count or last of the values in a window; None where that is undefined."""
    if function == "count":
        return sum(v is not None for v in values)
    if function == "last":
        return _last(values)
    known = numbers(values)
    if not known:
        return None
    of = _OF_NUMBERS[function]
    try:
        return finite(of(known))
    except OverflowError:
        return finite(_scaled(of, known)) if of in (_mean, _std) else None


def shifted(function: str, ring: Sequence[Value], by: int) -> Value:
    """lag: the value `by` events ago; diff: the newest value minus that one. None where either is missing."""
    before = ring[-1 - by] if len(ring) > by else None
    if function == "lag":
        return before
    new, old = finite(ring[-1]), finite(before)
    return None if new is None or old is None else finite(new - old)
