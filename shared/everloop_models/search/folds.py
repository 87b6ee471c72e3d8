"""The folds of a data set, and the scores of a model that learns online on them, each row predicted before learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from everloop_metrics import MetricSums, metric_input
from everloop_models.model import OnlineModel
from everloop_models.search.data import SearchRow

PARTS = 10
"""Of the rows that an online model predicts; the first one is learned and not scored."""


class Fold(NamedTuple):
    """The score of one fold, and that on rows that were learned for it, None for an online model."""

    score: float
    train_score: float | None = None


def prequential(rows: Iterable[SearchRow], total: int, model: OnlineModel, metric: str) -> Iterator[Fold]:
    """Predict each row, then learn it (Dawid 1984); the folds are parts of equal length, those without score left out.

    Raises ModelBroken.
    """
    ends = [total * n // PARTS for n in range(1, PARTS + 1)]
    part, sums = 0, MetricSums()
    for i, row in enumerate(rows, 1):
        said = model.predict(row.features)
        if part:
            sums.add(metric, metric_input(metric, row.label, said.value, said.probabilities))
        model.learn(row.features, row.label)
        if i == ends[part]:
            if part and (score := sums.score(metric)) is not None:
                yield Fold(score)
            part, sums = part + 1, MetricSums()
