"""Which trials are ended early: the median rule (Golovin et al. 2017, Google Vizier), from trials of earlier rounds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from everloop_models.search.task import Evaluation

MIN_TRIALS = 4
"""Complete trials before the first one is pruned."""
MIN_FOLDS = 2
"""Folds that every trial has."""


def thresholds(told: Sequence[Evaluation]) -> tuple[float | None, ...]:
    """By number of folds less one, the median of the means of complete trials over so many folds; None: no pruning.

    They come from finished rounds alone, so that what is pruned does not depend on how many trials run at a time.
    """
    complete = [one.folds for one in told if one.state == "complete"]
    if len(complete) < MIN_TRIALS:
        return ()
    folds = min(map(len, complete))
    medians = [median(fmean(scores[:n]) for scores in complete) for n in range(1, folds)]
    return *([None] * (MIN_FOLDS - 1)), *medians[MIN_FOLDS - 1 :]
