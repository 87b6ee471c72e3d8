"""Windows over a field: the values that are kept, and the functions over them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from everloop_features.numbers import EXACT, finite, numbers
from everloop_schemas.envelope import Scalar

Value = Scalar | None
Ring = list[Value]
"""The values of the last events, oldest first; None is an event where the field was missing."""
Points = tuple[list[int], list[Value]]
"""Event times (ms since the epoch, ascending) and the values then; missing values are not kept."""

Summary = Callable[[Sequence[Value]], Value]
"""mean, sum, min, max, std, count or last of the values in a window; None where that is undefined."""

SCALE = 2.0**-700
"""Brings the largest doubles down to where the sum of ten thousand squares is finite."""


def push(ring: Sequence[Value], value: Value, keep: int) -> Ring:
    """The ring after one more event, no longer than `keep`."""
    excess = len(ring) + 1 - keep
    return [*ring[excess:], value] if excess > 0 else [*ring, value]


def insert(points: Points, at_ms: int, value: Value) -> Points:
    """The points with one more, in order of event time; a missing value changes nothing."""
    if value is None:
        return points
    times, values = points
    if not times or times[-1] <= at_ms:  # nearly always
        return [*times, at_ms], [*values, value]
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
    return (times[start:], values[start:]) if start > 0 else points


def _sum_of_numbers(values: Sequence[Any]) -> float | None:
    """The sum where every value is a finite number; None where that has to be looked at value by value.

    It also tells quickly, because it runs in C, that none is missing, a text, or infinite.
    """
    try:
        total = math.fsum(values)
    except (TypeError, ValueError, OverflowError):
        return None
    return total if math.isfinite(total) else None


def _sum(values: Sequence[Any]) -> Value:
    if (total := _sum_of_numbers(values)) is not None and values:
        return total
    known = numbers(values)
    try:
        return finite(math.fsum(known)) if known else None
    except OverflowError:
        return None


def _mean(values: Sequence[Any]) -> Value:
    if (total := _sum_of_numbers(values)) is not None and values:
        return total / len(values)
    known = numbers(values)
    return _scaled_if_too_large(_mean_of, known) if known else None


def _std(values: Sequence[Any]) -> Value:
    """The population's standard deviation: 0 for a single value."""
    known = numbers(values) if _sum_of_numbers(values) is None else values
    return _scaled_if_too_large(_std_of, known) if known else None


def _mean_of(known: Sequence[int | float]) -> float:
    return math.fsum(known) / len(known)


def _std_of(known: Sequence[int | float]) -> float:
    mean = _mean_of(known)
    return math.sqrt(math.fsum([(v - mean) ** 2 for v in known]) / len(known))


def _scaled_if_too_large(of: Callable[[Sequence[int | float]], float], known: Sequence[int | float]) -> Value:
    """A mean or deviation: of scaled values, and scaled back, where it fits a double but its sums do not."""
    try:
        return finite(of(known))
    except OverflowError:
        return finite(float(of([v * SCALE for v in known]) / SCALE))


def _extreme(of: Callable[[Sequence[Any]], Any]) -> Summary:
    def summarise(values: Sequence[Any]) -> Value:
        if values and _sum_of_numbers(values) is not None and -EXACT < (found := of(values)) < EXACT:
            return finite(found)
        known = numbers(values)  # beyond EXACT whole numbers become floats before they are compared
        return finite(of(known)) if known else None

    return summarise


def _count(values: Sequence[Value]) -> Value:
    return len(values) - values.count(None)


def _last(values: Sequence[Value]) -> Value:
    return next((v for v in reversed(values) if v is not None), None)


SUMMARIES: dict[str, Summary] = {
    "mean": _mean,
    "sum": _sum,
    "min": _extreme(min),
    "max": _extreme(max),
    "std": _std,
    "count": _count,
    "last": _last,
}


def summary(function: str, values: Sequence[Value]) -> Value:
    """The summary of the values in a window by its name."""
    return SUMMARIES[function](values)


def shifted(function: str, ring: Sequence[Value], by: int) -> Value:
    """lag: the value `by` events ago; diff: the newest value minus that one. None where either is missing."""
    before = ring[-1 - by] if len(ring) > by else None
    if function == "lag":
        return before
    new, old = finite(ring[-1]), finite(before)
    return None if new is None or old is None else finite(new - old)
