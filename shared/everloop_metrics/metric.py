"""Metrics over outcomes: the input of each outcome, exact sums that can be subtracted again, and the score of sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import log, sqrt
from typing import NamedTuple

from everloop_schemas.envelope import Scalar
from everloop_shared.arithmetic import UNITS, distance, exact, mean

ERRORS = ("mae", "rmse", "log_loss")
"""Metrics of which less is better; of all others more is."""
MIN_PROBABILITY = 1e-15
"""Probabilities are clipped to this distance from 0 and 1, so that one certain mistake has a finite cost."""
STEPS_PER_E = 20
"""For the area under the ROC curve, log odds are rounded to this many steps per unit (a factor e of the odds)."""
LARGEST = 1e75
"""Numbers are clipped to this before they are squared."""


def class_name(label: Scalar) -> str:
    """A class as a key of `probabilities`: as JSON writes it, text without quotes."""
    return ("true" if label else "false") if isinstance(label, bool) else str(label)


def brier_loss(label: Scalar, probabilities: Mapping[str, float]) -> float:
    """Half the Brier score of these probabilities, a loss in [0, 1]."""
    truth = class_name(label)
    others = sum(p * p for name, p in probabilities.items() if name != truth)
    missed = 1.0 - probabilities.get(truth, 0.0)
    return min(1.0, (others + missed * missed) / 2)  # products, because a power that overflows raises


class MetricInput(NamedTuple):
    """An outcome as a metric needs it: label, prediction, and the probability that the metric uses.

    That is the probability of the label for `log_loss`, of `true` for `roc_auc`, and None for the others.
    """

    label: Scalar
    value: Scalar
    probability: float | None = None


def metric_input(metric: str, label: Scalar, value: Scalar, probabilities: Mapping[str, float] | None) -> MetricInput:
    """The input of an outcome to this metric; a prediction without probabilities counts as certain."""
    of = {"log_loss": label, "roc_auc": True}.get(metric)
    if of is None:
        return MetricInput(label, value)
    return MetricInput(label, value, probabilities.get(class_name(of), 0.0) if probabilities else float(value == of))


@dataclass(slots=True)
class MetricSums:
    """A metric's sums over outcomes, by counter: whole numbers, so that an outcome can be subtracted exactly."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, metric: str, outcome: MetricInput, sign: int = 1) -> None:
        """Add one outcome, or with sign -1 subtract it."""
        for name, amount in _PARTS[metric](outcome):
            left = self.counts.get(name, 0) + sign * amount
            if left:
                self.counts[name] = left
            else:
                self.counts.pop(name, None)

    def score(self, metric: str) -> float | None:
        """The metric; None where it is undefined, such as without outcomes."""
        return _SCORES[metric](self.counts)


def score_of(metric: str, outcomes: Iterable[MetricInput]) -> float | None:
    """The metric over these outcomes, None where it is undefined."""
    sums = MetricSums()
    for one in outcomes:
        sums.add(metric, one)
    return sums.score(metric)


Parts = list[tuple[str, int]]
Counts = Mapping[str, int]


def _wrong(one: MetricInput) -> Parts:
    return [("n", 1), ("wrong", int(one.label != one.value))]


def _accuracy(counts: Counts) -> float | None:
    return 1 - counts.get("wrong", 0) / counts["n"] if counts.get("n") else None


def _distance(one: MetricInput) -> Parts:
    return [("n", 1), ("error", exact(distance(one.label, one.value)))]


def _squares(one: MetricInput) -> Parts:
    error = min(LARGEST, distance(one.label, one.value))
    return [("n", 1), ("error", exact(error * error))]


def _regression_sums(one: MetricInput) -> Parts:
    y = exact(max(-LARGEST, min(LARGEST, float(one.label))))
    return [*_squares(one), ("y", y), ("yy", y * y // UNITS)]  # squared exactly: r2 takes differences of such sums


def _log_losses(one: MetricInput) -> Parts:
    chance = min(1 - MIN_PROBABILITY, max(MIN_PROBABILITY, one.probability or 0.0))
    return [("n", 1), ("error", exact(-log(chance)))]


def _mean(counts: Counts) -> float | None:
    return mean(counts.get("error", 0), counts["n"]) if counts.get("n") else None


def _root(counts: Counts) -> float | None:
    squared = _mean(counts)
    return None if squared is None else sqrt(squared)


def _r2(counts: Counts) -> float | None:
    """1 less squared errors over squared distances from the mean; undefined where all labels are alike."""
    n, y, yy = (counts.get(name, 0) for name in ("n", "y", "yy"))
    spread = (n * yy * UNITS - y * y) / (n * UNITS * UNITS) if n else 0.0
    return 1 - mean(counts.get("error", 0)) / spread if spread > 0 else None


def _confusions(one: MetricInput) -> Parts:
    label, value = class_name(one.label), class_name(one.value)
    return [(f"hit {label}", 1)] if label == value else [(f"missed {label}", 1), (f"false {value}", 1)]


def _f1_of(name: str, counts: Counts) -> float:
    hits, wrong = counts.get(f"hit {name}", 0), counts.get(f"missed {name}", 0) + counts.get(f"false {name}", 0)
    return 2 * hits / (2 * hits + wrong) if hits or wrong else 0.0


def _f1(counts: Counts) -> float | None:
    """The F1 of `true` for boolean labels, else the unweighted mean over the classes that labels had; None without any.

    Without a positive label it is undefined, because no prediction could have had an F1 above 0.
    """
    labels = {name.partition(" ")[2] for name in counts if name.startswith(("hit ", "missed "))}
    if labels <= {"true", "false"}:
        return _f1_of("true", counts) if "true" in labels else None
    return sum(_f1_of(name, counts) for name in labels) / len(labels) if labels else None


def _log_odds(one: MetricInput) -> Parts:
    chance = min(1 - MIN_PROBABILITY, max(MIN_PROBABILITY, one.probability or 0.0))
    return [(f"{'yes' if one.label else 'no'} {round(STEPS_PER_E * log(chance / (1 - chance)))}", 1)]


def _roc_auc(counts: Counts) -> float | None:
    """How often `true` had the higher probability of a true and a false; undefined with one class only."""
    rows: dict[str, Counter[int]] = {"yes": Counter(), "no": Counter()}
    for name, n in counts.items():
        side, _, at = name.partition(" ")
        rows[side][int(at)] += n
    yes, no = rows["yes"], rows["no"]
    below, won = 0, 0.0
    for step in sorted(yes.keys() | no.keys()):
        won += yes[step] * (below + no[step] / 2)
        below += no[step]
    return won / (yes.total() * no.total()) if yes and no else None


_PARTS: dict[str, Callable[[MetricInput], Parts]] = {
    "accuracy": _wrong,
    "f1": _confusions,
    "roc_auc": _log_odds,
    "log_loss": _log_losses,
    "mae": _distance,
    "rmse": _squares,
    "r2": _regression_sums,
}
_SCORES: dict[str, Callable[[Counts], float | None]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "roc_auc": _roc_auc,
    "log_loss": _mean,
    "mae": _mean,
    "rmse": _root,
    "r2": _r2,
}
