"""What a metric is before labels come: confidence-based performance estimation, as NannyML publishes it (CBPE).

A calibrated probability says how often a prediction is right. So each prediction counts as a true one with that
probability and as a false one with the rest, and the metric of these counts is what it is expected to be. It sees a
change of the inputs; it does not see a change of the concept, because the calibration is that of before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from everloop_metrics.inputs import metric_input
from everloop_metrics.metric import parts_of, score_of_counts

ESTIMATED = frozenset(
    ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro", "roc_auc", "pr_auc", "log_loss", "brier")
)
"""The metrics that follow from the probability of `true` and the prediction."""
BINS = 20
REMEMBERED_OUTCOMES = 5_000
"""When so many are counted, all counts are halved, so that the calibration follows what is served now."""
PRIOR_OUTCOMES = 5.0
"""In a bin the probability as it is said counts like so many outcomes."""


class BinaryPrediction(NamedTuple):
    """A prediction: the probability of `true`, and whether `true` was predicted."""

    chance: float
    value: bool


@dataclass(slots=True)
class Calibration:
    """How often it was `true` by probability, and from that the calibrated probability.

    Counts of 20 bins are made monotonous by pooling neighbours (isotonic regression: Zadrozny and Elkan 2002).
    """

    counts: list[float] = field(default_factory=lambda: [0.0] * BINS)
    said: list[float] = field(default_factory=lambda: [0.0] * BINS)
    true: list[float] = field(default_factory=lambda: [0.0] * BINS)

    def learn(self, chance: float, label: bool) -> None:
        """Count one outcome."""
        place = min(BINS - 1, int(chance * BINS))
        self.counts[place] += 1
        self.said[place] += chance
        self.true[place] += label
        if sum(self.counts) >= REMEMBERED_OUTCOMES:
            for numbers in (self.counts, self.said, self.true):
                numbers[:] = [number / 2 for number in numbers]

    def curve(self) -> list[tuple[float, float]]:
        """Pairs of said and calibrated probability, both rising."""
        pools = list[tuple[float, float, float]]()  # outcomes, sum of said, sum of true
        for place, count in enumerate(self.counts):
            middle = (place + 0.5) / BINS
            n, said = count + PRIOR_OUTCOMES, self.said[place] + PRIOR_OUTCOMES * middle
            pool = (n, said, self.true[place] + PRIOR_OUTCOMES * middle)
            while pools and pools[-1][2] * pool[0] >= pool[2] * pools[-1][0]:
                before = pools.pop()
                pool = (before[0] + pool[0], before[1] + pool[1], before[2] + pool[2])
            pools.append(pool)
        return [(said / n, true / n) for n, said, true in pools]


def calibrated(curve: Sequence[tuple[float, float]], chance: float) -> float:
    """The calibrated probability, between the pairs of a curve on straight lines, and beyond them as at the ends."""
    at = bisect_left(curve, (chance, 0.0))
    if at == 0 or at == len(curve):
        return curve[min(at, len(curve) - 1)][1]
    (x0, y0), (x1, y1) = curve[at - 1], curve[at]
    return y0 + (y1 - y0) * (chance - x0) / (x1 - x0) if x1 > x0 else y1


def expected_score(
    metric: str, curve: Sequence[tuple[float, float]], predictions: Iterable[BinaryPrediction]
) -> float | None:
    """The metric that predictions are expected to have; None where it is undefined."""
    counts = Counter[str]()
    for one in predictions:
        right = calibrated(curve, one.chance)
        probabilities = {"true": one.chance, "false": 1 - one.chance}
        for label, weight in ((True, right), (False, 1 - right)):
            for name, amount in parts_of(metric, metric_input(metric, label, one.value, probabilities)):
                counts[name] += amount * weight  # type: ignore[assignment]  # an expected number is a fraction
    return score_of_counts(metric, counts)
