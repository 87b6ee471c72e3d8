"""Metrics over outcomes: exact sums from which an outcome can be subtracted again, and the score of sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from everloop_metrics import classes, probabilities, regression
from everloop_metrics.inputs import MetricInput

ERRORS = frozenset(("mae", "rmse", "mape", *regression.QUANTILES, "log_loss", "brier", "ece"))
"""Metrics of which less is better; of all others more is."""
MAX_COUNTERS = 3_000
"""Of one metric; classes that come after those are counted as one."""
OTHER = "\x00other"
"""The class that stands for those without counters of their own."""


@dataclass(slots=True)
class MetricSums:
    """A metric's sums over outcomes, by counter: whole numbers, so that an outcome can be subtracted exactly."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, metric: str, outcome: MetricInput, sign: int = 1) -> None:
        """Add one outcome, or with sign -1 subtract it."""
        for name, amount in parts_of(metric, outcome):
            self._count(name, sign * amount)

    def score(self, metric: str) -> float | None:
        """The metric; None where it is undefined, such as without outcomes."""
        return score_of_counts(metric, self.counts)

    def _count(self, name: str, amount: int) -> None:
        """Once `MAX_COUNTERS` are there, none is added or removed, so that a class is subtracted where it was added."""
        is_full = len(self.counts) >= MAX_COUNTERS
        if is_full and name not in self.counts:
            name = f"{name.partition(' ')[0]} {OTHER}"
        left = self.counts.get(name, 0) + amount
        if left or is_full:
            self.counts[name] = left
        else:
            self.counts.pop(name, None)


def score_of(metric: str, outcomes: Iterable[MetricInput]) -> float | None:
    """The metric over these outcomes, None where it is undefined."""
    sums = MetricSums()
    for one in outcomes:
        sums.add(metric, one)
    return sums.score(metric)


def parts_of(metric: str, outcome: MetricInput) -> list[tuple[str, int]]:
    """What an outcome adds to the counters of a metric."""
    return _PARTS[metric](outcome)


def score_of_counts(metric: str, counts: Mapping[str, int]) -> float | None:
    """The metric of counters, None where it is undefined."""
    return _SCORES[metric](counts)


_PARTS: dict[str, Callable[[MetricInput], list[tuple[str, int]]]] = {
    "accuracy": classes.mistake,
    "balanced_accuracy": classes.confusion,
    "precision": classes.confusion,
    "recall": classes.confusion,
    "f1": classes.confusion,
    "f1_macro": classes.confusion,
    "roc_auc": probabilities.log_odds,
    "pr_auc": probabilities.log_odds,
    "log_loss": probabilities.surprise,
    "brier": probabilities.brier,
    "ece": probabilities.reliability,
    "mae": regression.absolute_error,
    "rmse": regression.squared_error,
    "r2": regression.squares,
    "mape": regression.relative_error,
    **{name: regression.quantile_error(name) for name in regression.QUANTILES},
}
_SCORES: dict[str, Callable[[Mapping[str, int]], float | None]] = {
    "accuracy": classes.accuracy,
    "balanced_accuracy": classes.balanced_accuracy,
    "precision": classes.precision,
    "recall": classes.recall,
    "f1": classes.f1,
    "f1_macro": classes.f1_macro,
    "roc_auc": probabilities.roc_auc,
    "pr_auc": probabilities.pr_auc,
    "log_loss": regression.mean_error,
    "brier": regression.mean_error,
    "ece": probabilities.ece,
    "mae": regression.mean_error,
    "rmse": regression.root_error,
    "r2": regression.r2,
    "mape": regression.mean_error,
    **dict.fromkeys(regression.QUANTILES, regression.mean_error),
}
