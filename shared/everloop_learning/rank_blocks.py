"""Losses by a metric of ranks, for which there is no loss of a single outcome: blocks of outcomes compare lines.

ROC AUC is the mean, over pairs of a true and a false one, of whether the true one has the higher score (a U-statistic
of degree 1, 1: Hanley and McNeil 1982). Pairs that share no outcome are independent where outcomes are, so that each
is a value to bet on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from everloop_metrics import metric_input
from everloop_metrics.probabilities import average_precision
from everloop_schemas.envelope import Scalar
from everloop_schemas.registry import BASELINE
from everloop_schemas.training import RankedBlock

RANKS = frozenset(("roc_auc", "pr_auc"))
"""The metrics of ranks."""
OF_EACH_CLASS = 5
"""A block ends once it has so many outcomes of both classes: enough to be more than neighbours in time, which are
alike, and few enough that evidence comes soon."""
MAX_OUTCOMES = 500
"""A block ends with fewer of the rarer class where it has so many; without any, its oldest outcome leaves it."""


def rank_score(line: str, value: Scalar, probabilities: Mapping[str, float] | None = None) -> float:
    """By what a line's prediction is ranked: its probability of `true`; one without probabilities is certain.

    The baseline ranks nothing: the share of `true` that it says moves with each label, and would rank outcomes that
    are near each other by the labels before them.
    """
    if line == BASELINE:
        return 0.5
    return metric_input("roc_auc", True, value, probabilities).probability or 0.0


@dataclass(slots=True)
class RankBlocks:
    """The outcomes of the block that is open: their offsets, their labels, and the scores of each line.

    What ends a block are labels alone, so that it is the same for all lines, wherever it is computed. A line that did
    not predict all of its outcomes has no loss. A block is of one `metric`.
    """

    metric: str = ""
    offsets: list[int] = field(default_factory=list)
    labels: list[bool] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)

    def add(self, metric: str, offset: int, label: Scalar, scores: Mapping[str, float]) -> RankedBlock | None:
        """Add an outcome with the scores of the lines that predicted it; the block that ends with it, if one does."""
        if metric != self.metric:
            self.clear(metric)
        self.offsets.append(offset)
        self.labels.append(label is True)
        known = {line: self.scores.get(line, []) for line, score in scores.items() if isfinite(score)}
        for line, of_line in known.items():
            of_line.append(scores[line])
        self.scores = known
        n, true = len(self.labels), sum(self.labels)
        fewest, is_full = min(true, n - true), n >= MAX_OUTCOMES
        if fewest >= OF_EACH_CLASS or (is_full and fewest):
            return self._end()
        if is_full:
            self._drop_oldest()
        return None

    def clear(self, metric: str = "") -> None:
        """Drop the open block; the next one is of this metric."""
        self.metric, self.offsets, self.labels, self.scores = metric, [], [], {}

    def _end(self) -> RankedBlock:
        offsets, labels = self.offsets, self.labels
        compare = _losses_of_pairs if self.metric == "roc_auc" else _loss_of_precision
        losses = {line: compare(labels, scores) for line, scores in self.scores.items() if len(scores) == len(labels)}
        self.clear(self.metric)
        return RankedBlock(start=offsets[0], end=offsets[-1], outcomes=len(offsets), losses=losses)

    def _drop_oldest(self) -> None:
        before = len(self.labels)
        del self.offsets[0], self.labels[0]
        for scores in self.scores.values():
            if len(scores) == before:
                del scores[0]


def _losses_of_pairs(labels: Sequence[bool], scores: Sequence[float]) -> tuple[float, ...]:
    """For each outcome of the rarer class, how often it is on the wrong side of those that it is compared with.

    These are its share of the other class: every k-th, so that the outcomes compared are apart in time.
    """
    true = [score for label, score in zip(labels, scores, strict=True) if label]
    false = [score for label, score in zip(labels, scores, strict=True) if not label]
    if len(true) <= len(false):
        return tuple(_share_above(false[i :: len(true)], score) for i, score in enumerate(true))
    return tuple(1 - _share_above(true[i :: len(false)], score) for i, score in enumerate(false))


def _share_above(others: Sequence[float], score: float) -> float:
    """How many of the others are above a score; one that is equal counts as half."""
    return sum((other > score) + (other == score) / 2 for other in others) / len(others)


def _loss_of_precision(labels: Sequence[bool], scores: Sequence[float]) -> tuple[float, ...]:
    """1 less the average precision within the block."""
    true = Counter(score for label, score in zip(labels, scores, strict=True) if label)
    false = Counter(score for label, score in zip(labels, scores, strict=True) if not label)
    return (1 - (average_precision(true, false) or 0.0),)
