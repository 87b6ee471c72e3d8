"""Blocked time-series cross-validation: a batch model is trained on the past and scored on the block after it.

Rows are not shuffled, and each block is validated by a model that has seen earlier ones alone (Bergmeir and Benítez
2012; Cerqueira, Torgo and Mozetič 2020), as it will be in service.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from everloop_metrics import MetricInput, probability_of, score_of
from everloop_models.batch.pipeline import fit
from everloop_models.batch.proof import Said, said_by_pipeline
from everloop_models.batch.rows import Columns
from everloop_models.search.data import Array, SearchData
from everloop_models.search.folds import Fold
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop_parts import ModelSpec

BLOCKS = 5
"""Folds. The rows are one block more: the first one is trained on alone."""


def cross_validate(data: SearchData, model: ModelSpec, metric: str, added: Columns | None = None) -> Iterator[Fold]:
    """The folds in their order; one whose past has a single class, or without a score, is left out.

    A model is trained on its last `window` rows before the block, all without one. The score on what was learned is
    that of as many of these rows, evenly spread, as the block has. Raises ModelBroken.
    """
    ends = [data.rows * n // (BLOCKS + 1) for n in range(1, BLOCKS + 2)]
    for first, last in pairwise(ends):
        past = slice(max(0, first - (model.window or first)), first)
        labels = np.asarray(data.labels[past])
        present = np.unique(labels) if data.classes is not None else None
        if present is not None and len(present) < 2:
            continue
        inside = labels if present is None else np.searchsorted(present, labels)
        columns = _columns(data, past, added)
        pipeline = fit(model, columns, inside)
        again = np.linspace(0, len(labels) - 1, min(len(labels), last - first)).astype(int)
        scorer = _Scorer(pipeline, data.classes, present, metric)
        train_score = scorer.score(columns.part(again), labels[again])
        del columns
        block = slice(first, last)
        score = scorer.score(_columns(data, block, added), np.asarray(data.labels[block]))
        if score is not None:
            yield Fold(score, train_score)


def _columns(data: SearchData, rows: slice, added: Columns | None) -> Columns:
    columns = data.columns(rows)
    return columns if added is None else columns.beside(added.part(rows))


class _Scorer:
    """Scores a fitted pipeline, whose classes are places in `present`, which are places in `classes`."""

    def __init__(self, pipeline: Any, classes: tuple[Scalar, ...] | None, present: Array | None, metric: str) -> None:
        self._pipeline, self._classes, self._present, self._metric = pipeline, classes, present, metric

    def score(self, columns: Columns, labels: Array) -> float | None:
        task = "regression" if self._classes is None else "classes"
        said = said_by_pipeline(self._pipeline, columns.stacked, task)
        if self._classes is None or self._present is None:
            assert said.values is not None, "of a regression"
            pairs = zip(labels.tolist(), said.values.tolist(), strict=True)
            return score_of(self._metric, (MetricInput(label, value) for label, value in pairs))
        return score_of(self._metric, self._inputs(said, labels, self._classes, self._present))

    def _inputs(self, said: Said, labels: Array, classes: tuple[Scalar, ...], present: Array) -> Iterator[MetricInput]:
        assert said.labels is not None, "of classes"
        values = [classes[n] for n in present[said.labels.astype(int)].tolist()]
        truth = [classes[n] for n in labels.tolist()]
        chances = self._chances(said, labels, classes, present)
        for i, (label, value) in enumerate(zip(truth, values, strict=True)):
            yield MetricInput(label, value, None if chances is None else float(chances[i]))

    def _chances(self, said: Said, labels: Array, classes: tuple[Scalar, ...], present: Array) -> Array | None:
        """What the metric takes from the probabilities of each row, None for one that takes nothing."""
        assert said.labels is not None, "of classes"
        values = present[said.labels.astype(int)]
        if self._metric == "brier":
            of_label = _probability(said, labels, values, present)
            others = 0.0 if said.probabilities is None else (said.probabilities**2).sum(axis=1) - of_label**2
            missed = 2 * (1 - of_label) if said.probabilities is None else (1 - of_label) ** 2
            return np.asarray((others + missed) / 2)
        if probability_of(self._metric, classes[0], classes[0]) is None:
            return None
        if self._metric == "log_loss":
            return _probability(said, labels, values, present)
        true = np.full(len(labels), classes.index(True)) if isinstance(classes[0], bool) else values
        return _probability(said, true, values, present)


def _probability(said: Said, wanted: Array, values: Array, present: Array) -> Array:
    """The probability of one class of each row; a prediction without probabilities counts as certain."""
    if said.probabilities is None:
        return np.asarray(values == wanted, dtype=np.float64)
    places = np.clip(np.searchsorted(present, wanted), 0, len(present) - 1)
    found = said.probabilities[np.arange(len(wanted)), places]
    return np.where(present[places] == wanted, found, 0.0)
