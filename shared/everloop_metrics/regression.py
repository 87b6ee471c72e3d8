"""Metrics of numbers: errors, squared errors, errors as a share of the label, and errors by quantile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt

from everloop_metrics.inputs import MetricInput
from everloop_shared.arithmetic import UNITS, bounded, distance, exact, mean

Parts = list[tuple[str, int]]
Counts = Mapping[str, int]
LARGEST = 1e75
"""Numbers are clipped to this before they are squared."""
QUANTILES = {"pinball": 0.5, "pinball_10": 0.1, "pinball_90": 0.9}
"""By metric, the quantile that a prediction aims at."""


def absolute_error(one: MetricInput) -> Parts:
    """For `mae`."""
    return [("n", 1), ("error", exact(distance(one.label, one.value)))]


def squared_error(one: MetricInput) -> Parts:
    """For `rmse`."""
    error = min(LARGEST, distance(one.label, one.value))
    return [("n", 1), ("error", exact(error * error))]


def squares(one: MetricInput) -> Parts:
    """For `r2`."""
    y = exact(max(-LARGEST, min(LARGEST, float(one.label))))
    return [*squared_error(one), ("y", y), ("yy", y * y // UNITS)]  # squared exactly: r2 takes differences of such sums


def relative_error(one: MetricInput) -> Parts:
    """For `mape`: a share of the label's size. An outcome whose label is 0 has no such share and is not counted."""
    size = abs(bounded(one.label))
    return [("n", 1), ("error", exact(distance(one.label, one.value) / size))] if size else []


def quantile_error(metric: str) -> Callable[[MetricInput], Parts]:
    """For the metrics of `QUANTILES`."""
    return lambda one: [("n", 1), ("error", exact(pinball_loss(QUANTILES[metric], one.label, one.value)))]


def pinball_loss(quantile: float, label: object, value: object) -> float:
    """The error of a prediction of a quantile (Koenker and Bassett 1978): its share where the prediction is too low,
    1 less its share where it is too high."""
    error = distance(label, value)
    return error * (quantile if bounded(label) > bounded(value) else 1 - quantile)


def mean_error(counts: Counts) -> float | None:
    """The mean of the errors; None without any."""
    return mean(counts.get("error", 0), counts["n"]) if counts.get("n") else None


def root_error(counts: Counts) -> float | None:
    """The root of the mean of the errors."""
    squared = mean_error(counts)
    return None if squared is None else sqrt(squared)


def r2(counts: Counts) -> float | None:
    """1 less squared errors over squared distances from the mean; undefined where all labels are alike."""
    n, y, yy = (counts.get(name, 0) for name in ("n", "y", "yy"))
    spread = (n * yy * UNITS - y * y) / (n * UNITS * UNITS) if n else 0.0
    return 1 - mean(counts.get("error", 0)) / spread if spread > 0 else None
