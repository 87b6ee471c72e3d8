"""Metrics of probabilities: how sure a right prediction was, how well outcomes are ranked, and how honest it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import log
from typing import NamedTuple

from everloop_metrics.inputs import MetricInput
from everloop_shared.arithmetic import UNITS, exact

Parts = list[tuple[str, int]]
Counts = Mapping[str, int]
MIN_PROBABILITY = 1e-15
"""Probabilities are clipped to this distance from 0 and 1, so that one certain mistake has a finite cost."""
STEPS_PER_E = 20
"""For ranks, log odds are rounded to this many steps per unit (a factor e of the odds)."""
RELIABILITY_BINS = 10
"""Of equal width, in which predicted probabilities are compared with what happened."""


def clipped(probability: float | None) -> float:
    """The probability within `MIN_PROBABILITY` of 0 and 1."""
    return min(1 - MIN_PROBABILITY, max(MIN_PROBABILITY, probability or 0.0))


def surprise(one: MetricInput) -> Parts:
    """For `log_loss`, in nats."""
    return [("n", 1), ("error", exact(-log(clipped(one.probability))))]


def brier(one: MetricInput) -> Parts:
    """For `brier`."""
    return [("n", 1), ("error", exact(one.probability or 0.0))]


def odds_step(probability: float | None) -> int:
    """The log odds of a probability, in whole steps."""
    chance = clipped(probability)
    return round(STEPS_PER_E * log(chance / (1 - chance)))


def log_odds(one: MetricInput) -> Parts:
    """For `roc_auc` and `pr_auc`."""
    return [(f"{'yes' if one.label else 'no'} {odds_step(one.probability)}", 1)]


def roc_auc(counts: Counts) -> float | None:
    """How often `true` had the higher probability of a true and a false (Hanley and McNeil 1982); undefined with one
    class only."""
    yes, no = _by_step(counts)
    below, won = 0, 0.0
    for step in sorted(yes.keys() | no.keys()):
        won += yes[step] * (below + no[step] / 2)
        below += no[step]
    return won / (yes.total() * no.total()) if yes and no else None


def average_precision(yes: Counter[float], no: Counter[float]) -> float | None:
    """The average precision of outcomes with label `true` and `false`, each counted by score; None without `true`."""
    hits, wrong, area = 0, 0, 0.0
    for score in sorted(yes.keys() | no.keys(), reverse=True):
        hits, wrong = hits + yes[score], wrong + no[score]
        area += yes[score] * hits / (hits + wrong)
    return area / hits if hits else None


def pr_auc(counts: Counts) -> float | None:
    """The average precision, which is the area under the curve of precision by recall without interpolation (Boyd,
    Eng and Page 2013; scikit-learn's `average_precision_score`); undefined without a positive label."""
    return average_precision(*_by_step(counts))


def reliability(one: MetricInput) -> Parts:
    """For `ece`: of two classes the probability of `true`, of more that of the predicted class."""
    chance = min(1.0, max(0.0, one.probability or 0.0))
    hit = int(one.label if isinstance(one.label, bool) else one.label == one.value)
    place = min(RELIABILITY_BINS - 1, int(chance * RELIABILITY_BINS))
    return [(f"n {place}", 1), (f"sure {place}", exact(chance)), (f"hit {place}", hit)]


class ReliabilityBin(NamedTuple):
    """Predictions whose probability lies in one bin: their number, mean probability, and how often it was so."""

    place: int
    n: int
    predicted: float
    observed: float


def reliability_curve(counts: Counts, units: int = UNITS) -> list[ReliabilityBin]:
    """The bins that have predictions, in order. `units` is that of the sums of probabilities."""
    curve = []
    for place in range(RELIABILITY_BINS):
        if n := counts.get(f"n {place}", 0):
            predicted = counts.get(f"sure {place}", 0) / (n * units)
            curve.append(ReliabilityBin(place, n, predicted, counts.get(f"hit {place}", 0) / n))
    return curve


def ece(counts: Counts) -> float | None:
    """The expected calibration error: the mean distance of predicted probability and observed share, over bins.

    As Naeini, Cooper and Hauskrecht (2015) have it for two classes, and Guo et al. (2017) for more.
    """
    return calibration_error(reliability_curve(counts))


def calibration_error(curve: list[ReliabilityBin]) -> float | None:
    """The expected calibration error of a reliability curve; None without predictions."""
    total = sum(one.n for one in curve)
    return sum(one.n * abs(one.predicted - one.observed) for one in curve) / total if total else None


def _by_step(counts: Counts) -> tuple[Counter[float], Counter[float]]:
    rows: dict[str, Counter[float]] = {"yes": Counter(), "no": Counter()}
    for name, n in counts.items():
        side, _, at = name.partition(" ")
        rows[side][int(at)] += n
    return rows["yes"], rows["no"]
