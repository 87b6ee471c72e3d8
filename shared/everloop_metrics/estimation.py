"""What a metric is before labels come: confidence-based performance estimation, as NannyML publishes it (CBPE).

A calibrated probability says how often a prediction is right. So each prediction counts as a true one with that
probability and as a false one with the rest, and the metric of these counts is what it is expected to be. It sees a
change of the inputs; it does not see a change of the concept, because the calibration is that of before.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from everloop_metrics.inputs import metric_input
from everloop_metrics.metric import parts_of, score_of_counts
from everloop_schemas.envelope import Scalar

ESTIMATED = frozenset(
    ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro", "roc_auc", "pr_auc", "log_loss", "brier")
)
"""The metrics that follow from the probabilities and the prediction."""
EVEN = tuple(n / 20 for n in range(1, 20))
FINE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Where bins of probabilities end: of `true`, and of one class of many, whose small probabilities add up."""
BINS = len(EVEN) + 1
REMEMBERED_OUTCOMES = 5_000
"""When so many are counted, all counts are halved, so that the calibration follows what is served now."""
PRIOR_OUTCOMES = 5.0
"""In a bin the probability as it is said counts like so many outcomes."""

Curve = Sequence[tuple[float, float]]
"""Pairs of said and calibrated probability, both rising."""


class Expected(NamedTuple):
    """A prediction with its probabilities, and how often each class is expected to be its label."""

    value: Scalar
    probabilities: Mapping[str, float]
    shares: Mapping[Scalar, float]


@dataclass(slots=True)
class Calibration:
    """How often it was `true`, or one class of many, by its probability, and from that the calibrated probability.

    Counts of 20 bins are made monotonous by pooling neighbours (isotonic regression: Zadrozny and Elkan 2002).
    """

    of_many: bool = False
    counts: list[float] = field(default_factory=lambda: [0.0] * BINS)
    said: list[float] = field(default_factory=lambda: [0.0] * BINS)
    true: list[float] = field(default_factory=lambda: [0.0] * BINS)

    def learn(self, chance: float, label: bool) -> None:
        """Count one outcome."""
        place = bisect_right(FINE if self.of_many else EVEN, chance)
        self.counts[place] += 1
        self.said[place] += chance
        self.true[place] += label
        if sum(self.counts) >= REMEMBERED_OUTCOMES:
            for numbers in (self.counts, self.said, self.true):
                numbers[:] = [number / 2 for number in numbers]

    def curve(self) -> list[tuple[float, float]]:
        """Pairs of said and calibrated probability, both rising."""
        pools = list[tuple[float, float, float]]()  # outcomes, sum of said, sum of true
        edges = (0.0, *(FINE if self.of_many else EVEN), 1.0)
        for place, count in enumerate(self.counts):
            middle = (edges[place] + edges[place + 1]) / 2
            n, said = count + PRIOR_OUTCOMES, self.said[place] + PRIOR_OUTCOMES * middle
            pool = (n, said, self.true[place] + PRIOR_OUTCOMES * middle)
            while pools and pools[-1][2] * pool[0] >= pool[2] * pools[-1][0]:
                before = pools.pop()
                pool = (before[0] + pool[0], before[1] + pool[1], before[2] + pool[2])
            pools.append(pool)
        return [(said / n, true / n) for n, said, true in pools]


def calibrated(curve: Curve, chance: float) -> float:
    """The calibrated probability, between the pairs of a curve on straight lines, and beyond them as at the ends."""
    at = bisect_left(curve, (chance, 0.0))
    if at == 0 or at == len(curve):
        return curve[min(at, len(curve) - 1)][1]
    (x0, y0), (x1, y1) = curve[at - 1], curve[at]
    return y0 + (y1 - y0) * (chance - x0) / (x1 - x0) if x1 > x0 else y1


def expect_binary(curve: Curve, chance: float, value: bool) -> Expected:
    """A prediction of two classes with this probability of `true`."""
    true = calibrated(curve, chance)
    return Expected(value, {"true": chance, "false": 1 - chance}, {True: true, False: 1 - true})


class ClassCurves(NamedTuple):
    """Of one class its calibration where it is predicted, and where another one is."""

    predicted: Curve
    other: Curve


def expect_class(curves: Sequence[ClassCurves], names: Sequence[str], chances: Sequence[float], value: str) -> Expected:
    """A prediction of many classes. That of the predicted class is calibrated among predictions of it (top-label
    calibration: Gupta and Ramdas 2022); the others share the rest as they are calibrated, each for itself."""
    probabilities = dict(zip(names, chances, strict=False))
    shares = dict[Scalar, float]()
    for name, of_class in zip(names, curves, strict=False):
        shares[name] = calibrated(of_class[name != value], probabilities.get(name, 0.0))
    right = shares.pop(value, 0.0)
    total = sum(shares.values())
    rest = {name: share / total * (1 - right) for name, share in shares.items()} if total else {}
    return Expected(value, probabilities, {value: right, **rest})


def expected_score(metric: str, predictions: Iterable[Expected]) -> float | None:
    """The metric that predictions are expected to have; None where it is undefined."""
    counts = Counter[str]()
    for one in predictions:
        for label, weight in one.shares.items():
            for name, amount in parts_of(metric, metric_input(metric, label, one.value, one.probabilities)):
                counts[name] += amount * weight  # type: ignore[assignment]  # an expected number is a fraction
    return score_of_counts(metric, counts)
