"""What a metric needs of each outcome, exact sums of it that can be taken back, and the metric they come to."""

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
SURE = 1e-15
"""No probability counts as nearer to 0 or 1 than this: a single sure mistake would cost without end."""
STEPS = 20
"""Probabilities are told apart in so many steps to a factor e of the odds, for the area under the ROC curve."""
LARGEST = 1e75
"""Numbers count as no larger than this where they are squared."""


def class_name(label: Scalar) -> str:
    """A class as a key of `probabilities`: as JSON writes it, text without quotes."""
    return ("true" if label else "false") if isinstance(label, bool) else str(label)


def brier(label: Scalar, probabilities: Mapping[str, float]) -> float:
    """Half the Brier score of these probabilities, a loss in [0, 1]."""
    truth = class_name(label)
    others = sum(p * p for name, p in probabilities.items() if name != truth)
    missed = 1.0 - probabilities.get(truth, 0.0)
    return min(1.0, (others + missed * missed) / 2)  # products, because a power that overflows raises


class Heard(NamedTuple):
    """An outcome as a metric needs it: the truth, what was said, and the probability that the metric looks at.

    That is the probability of the truth for `log_loss`, of `true` for `roc_auc`, and none for the others.
    """

    label: Scalar
    value: Scalar
    chance: float | None = None


def heard(metric: str, label: Scalar, value: Scalar, probabilities: Mapping[str, float] | None) -> Heard:
    """An outcome for this metric; a prediction without probabilities counts as sure."""
    of = {"log_loss": label, "roc_auc": True}.get(metric)
    if of is None:
        return Heard(label, value)
    return Heard(label, value, probabilities.get(class_name(of), 0.0) if probabilities else float(value == of))


@dataclass(slots=True)
class Sums:
    """What outcomes add to a metric, by counter: whole numbers, so that taking one out leaves what was before."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, metric: str, one: Heard, sign: int = 1) -> None:
        """Count one outcome in, or with sign -1 out."""
        for name, amount in _PARTS[metric](one):
            left = self.counts.get(name, 0) + sign * amount
            if left:
                self.counts[name] = left
            else:
                self.counts.pop(name, None)

    def score(self, metric: str) -> float | None:
        """The metric; None where it is undefined: without outcomes, or without one that it could tell apart."""
        return _SCORES[metric](self.counts)


def score_of(metric: str, outcomes: Iterable[Heard]) -> float | None:
    """The metric over these outcomes, None where it is undefined."""
    sums = Sums()
    for one in outcomes:
        sums.add(metric, one)
    return sums.score(metric)


Parts = list[tuple[str, int]]
Counts = Mapping[str, int]


def _wrong(one: Heard) -> Parts:
    return [("n", 1), ("wrong", int(one.label != one.value))]


def _accuracy(counts: Counts) -> float | None:
    return 1 - counts.get("wrong", 0) / counts["n"] if counts.get("n") else None


def _distance(one: Heard) -> Parts:
    return [("n", 1), ("error", exact(distance(one.label, one.value)))]


def _squares(one: Heard) -> Parts:
    error = min(LARGEST, distance(one.label, one.value))
    return [("n", 1), ("error", exact(error * error))]


def _fit(one: Heard) -> Parts:
    y = exact(max(-LARGEST, min(LARGEST, float(one.label))))
    return [*_squares(one), ("y", y), ("yy", y * y // UNITS)]  # squared exactly: r2 takes differences of such sums


def _surprise(one: Heard) -> Parts:
    chance = min(1 - SURE, max(SURE, one.chance or 0.0))
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


def _hits(one: Heard) -> Parts:
    label, value = class_name(one.label), class_name(one.value)
    return [(f"hit {label}", 1)] if label == value else [(f"missed {label}", 1), (f"false {value}", 1)]


def _f1_of(name: str, counts: Counts) -> float:
    hits, wrong = counts.get(f"hit {name}", 0), counts.get(f"missed {name}", 0) + counts.get(f"false {name}", 0)
    return 2 * hits / (2 * hits + wrong) if hits or wrong else 0.0


def _f1(counts: Counts) -> float | None:
    """Of `true` where labels are that, else the plain mean over the classes that labels had; undefined without any.

    Without a positive label no prediction could have had an F1 above 0: that says nothing of the model.
    """
    labels = {name.partition(" ")[2] for name in counts if name.startswith(("hit ", "missed "))}
    if labels <= {"true", "false"}:
        return _f1_of("true", counts) if "true" in labels else None
    return sum(_f1_of(name, counts) for name in labels) / len(labels) if labels else None


def _ranked(one: Heard) -> Parts:
    chance = min(1 - SURE, max(SURE, one.chance or 0.0))
    return [(f"{'yes' if one.label else 'no'} {round(STEPS * log(chance / (1 - chance)))}", 1)]


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


_PARTS: dict[str, Callable[[Heard], Parts]] = {
    "accuracy": _wrong,
    "f1": _hits,
    "roc_auc": _ranked,
    "log_loss": _surprise,
    "mae": _distance,
    "rmse": _squares,
    "r2": _fit,
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
