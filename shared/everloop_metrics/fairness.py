"""Whom a model treats worse: group measures of a binary task as differences between groups, with intervals.

Demographic parity, equal opportunity and equalised odds as in Hardt, Price and Srebro, "Equality of opportunity in
supervised learning" (2016); calibration by group as in Barocas, Hardt and Narayanan, "Fairness and machine learning",
chapter 3. Each measure is the largest difference between two groups, so that 0 is the best and groups need no order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

from everloop_schemas.conditions import FAIRNESS_MEASURES

MIN_OUTCOMES = 30
"""A rate of fewer outcomes is not compared: its interval would be wider than any difference that matters."""
CONFIDENCE = 0.95
GAP_UNITS = 10**9
"""Probabilities are summed as whole numbers of this unit, so that an outcome is subtracted exactly."""


@dataclass(slots=True)
class GroupSums:
    """The outcomes of one group, and of them those with label `true`, those predicted `true`, and those with both.

    `scored` have a probability of `true`; over them `gap` sums probability minus label, `squares` its square, both in
    units of 1/GAP_UNITS.
    """

    outcomes: int = 0
    positives: int = 0
    predicted: int = 0
    hits: int = 0
    scored: int = 0
    gap: int = 0
    squares: int = 0

    def add(self, label: bool, predicted: bool, probability: float | None, sign: int = 1) -> None:
        """Add an outcome, or with sign -1 subtract it."""
        self.outcomes += sign
        self.positives += sign * label
        self.predicted += sign * predicted
        self.hits += sign * (label and predicted)
        if probability is not None:
            gap = max(0.0, min(1.0, probability)) - label
            self.scored += sign
            self.gap += sign * round(gap * GAP_UNITS)
            self.squares += sign * round(gap * gap * GAP_UNITS)

    def merge(self, other: GroupSums) -> None:
        """Add the outcomes of another group."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Estimate(NamedTuple):
    """A value with its interval, over so many outcomes; None where there are none."""

    value: float | None
    low: float | None
    high: float | None
    outcomes: int


Statistic = Callable[[GroupSums, float], Estimate]
"""What is compared between groups, with the confidence of its interval."""


def positive_rate(sums: GroupSums, confidence: float = CONFIDENCE) -> Estimate:
    """How often `true` is predicted."""
    return rate(sums.predicted, sums.outcomes, confidence)


def true_positive_rate(sums: GroupSums, confidence: float = CONFIDENCE) -> Estimate:
    """How often `true` is predicted where the label is `true`."""
    return rate(sums.hits, sums.positives, confidence)


def false_positive_rate(sums: GroupSums, confidence: float = CONFIDENCE) -> Estimate:
    """How often `true` is predicted where the label is `false`."""
    return rate(sums.predicted - sums.hits, sums.outcomes - sums.positives, confidence)


def calibration_error(sums: GroupSums, confidence: float = CONFIDENCE) -> Estimate:
    """The mean predicted probability of `true` minus its share among the labels: above 0, the group is overrated.

    What calibration by group asks of each score holds of their mean: the group's predictions are right on average
    (multiaccuracy; Kim, Ghorbani and Zou, 2019). Unlike a binned error it is 0 in expectation where the model is right,
    however few the outcomes are. The interval is the normal one of a mean.
    """
    n = sums.scored
    if not n:
        return Estimate(None, None, None, 0)
    mean = sums.gap / n / GAP_UNITS
    variance = max(0.0, sums.squares / n / GAP_UNITS - mean * mean) * n / max(1, n - 1)
    reach = quantile(confidence) * sqrt(variance / n)
    return Estimate(mean, max(-1.0, mean - reach), min(1.0, mean + reach), n)


def rate(hits: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """A share with Wilson's score interval ("Probable inference", 1927)."""
    if n <= 0:
        return Estimate(None, None, None, 0)
    z2, share = quantile(confidence) ** 2, hits / n
    centre = (hits + z2 / 2) / (n + z2)
    reach = sqrt(z2) * sqrt(hits * (n - hits) / n + z2 / 4) / (n + z2)
    return Estimate(share, min(share, max(0.0, centre - reach)), max(share, min(1.0, centre + reach)), n)


@lru_cache(maxsize=1_000)
def quantile(confidence: float) -> float:
    """The two-sided quantile of the normal distribution: 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


COMPARED: dict[str, tuple[Statistic, ...]] = {
    "demographic_parity": (positive_rate,),
    "equal_opportunity": (true_positive_rate,),
    "equalised_odds": (true_positive_rate, false_positive_rate),
    "calibration": (calibration_error,),
}
"""By measure, the statistics that it compares; of two, the larger difference counts."""
assert tuple(COMPARED) == FAIRNESS_MEASURES


def measure(name: str, groups: Mapping[str, GroupSums], confidence: float = CONFIDENCE) -> Estimate:
    """The largest difference between two groups; None unless two have `MIN_OUTCOMES` for each statistic.

    All pairs share the error (Bonferroni), so that the interval of the largest difference is right although it is the
    largest: it is from the largest lower to the largest upper bound. The bounds of a pair are Newcombe's hybrid score
    ("Interval estimation for the difference between independent proportions", 1998, method 10), which Zou and Donner
    (2008) recover from the intervals of any two statistics, and so for calibration too.
    """
    found = [_largest_difference(of, groups, len(COMPARED[name]), confidence) for of in COMPARED[name]]
    outcomes = min(estimate.outcomes for estimate in found)
    values = [estimate.value for estimate in found if estimate.value is not None]
    if len(values) < len(found):
        return Estimate(None, None, None, outcomes)
    bounds = [(e.low, e.high) for e in found if e.low is not None and e.high is not None]
    return Estimate(max(values), max(low for low, _ in bounds), max(high for _, high in bounds), outcomes)


def _largest_difference(
    statistic: Statistic, groups: Mapping[str, GroupSums], statistics: int, confidence: float
) -> Estimate:
    compared = [sums for sums in groups.values() if statistic(sums, confidence).outcomes >= MIN_OUTCOMES]
    n = len(compared)
    if n < 2:
        return Estimate(None, None, None, sum(statistic(sums, confidence).outcomes for sums in compared))
    each = 1 - (1 - confidence) / (statistics * n * (n - 1) / 2)
    estimates = [statistic(sums, each) for sums in compared]
    differences = [_difference(a, b) for a, b in permutations(estimates, 2)]
    value, low, high = (max(part) for part in zip(*differences, strict=True))
    return Estimate(value, max(0.0, low), high, sum(estimate.outcomes for estimate in estimates))


def _difference(a: Estimate, b: Estimate) -> tuple[float, float, float]:
    """The first less the second, with its bounds."""
    one, low, high = _numbers(a)
    other, other_low, other_high = _numbers(b)
    value = one - other
    down = sqrt((one - low) ** 2 + (other_high - other) ** 2)
    up = sqrt((high - one) ** 2 + (other - other_low) ** 2)
    return value, value - down, value + up


def _numbers(estimate: Estimate) -> tuple[float, float, float]:
    value, low, high, _ = estimate
    if value is None or low is None or high is None:
        raise ValueError("it has no outcomes")
    return value, low, high
