"""Trials that are behind the median of earlier rounds are ended early."""

from __future__ import annotations

from everloop_models.search.pruning import MIN_FOLDS, MIN_TRIALS, thresholds
from everloop_models.search.task import Evaluation


def complete(*folds: float) -> Evaluation:
    return Evaluation(state="complete", folds=folds, score=sum(folds) / len(folds))


def test_nothing_is_pruned_before_a_round_of_trials_is_complete() -> None:
    told = [complete(0.5, 0.6, 0.7)] * (MIN_TRIALS - 1)

    assert thresholds(told) == ()
    assert thresholds([*told, Evaluation.failed("no memory")]) == ()


def test_the_threshold_after_some_folds_is_the_median_of_the_means_over_so_many() -> None:
    told = [complete(0.1 * n, 0.1 * n, 0.1 * n + 0.3) for n in range(1, 6)]

    found = thresholds([*told, Evaluation(state="pruned", folds=(0.9, 0.9), score=0.9)])

    assert found[: MIN_FOLDS - 1] == (None,) * (MIN_FOLDS - 1)
    assert [round(one or 0.0, 9) for one in found[MIN_FOLDS - 1 :]] == [0.3]
