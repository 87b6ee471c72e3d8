"""Version 0, the baseline: the running majority class or mean of a loop's labels, which every model has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from everloop_metrics import class_name
from everloop_models.model import ModelPrediction
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_shared.arithmetic import bounded


class LabelStatistics(Protocol):
    """What the baseline knows of the labels so far."""

    @property
    def count(self) -> int:
        """How many labels there are."""

    @property
    def mean(self) -> float:
        """Their mean, for a regression."""

    @property
    def classes(self) -> Mapping[Scalar, int]:
        """How many labels each class has, in the order of first appearance, for the other tasks."""


def majority_or_mean(labels: LabelStatistics, is_regression: bool, default: Scalar) -> Scalar:
    """The mean of a regression's labels, else the most frequent class (of equals the first); `default` before any."""
    if not labels.count:
        return default
    if is_regression:
        return labels.mean
    return max(labels.classes, key=labels.classes.__getitem__, default=default)


class Baseline:
    """Predicts the majority class or the mean of `labels`, which others go on counting."""

    def __init__(self, spec: LoopSpec, labels: LabelStatistics) -> None:
        self._is_regression, self._default = spec.task == "regression", spec.initial_prediction
        self._labels = labels

    @property
    def value(self) -> Scalar:
        """The majority class, or the mean."""
        return majority_or_mean(self._labels, self._is_regression, self._default)

    def predict(self, features: Fields | None = None) -> ModelPrediction:
        """The majority class with the share of each, or the mean; features are ignored."""
        labels, value = self._labels, self.value
        if self._is_regression or not labels.count or not labels.classes:
            return ModelPrediction(value, None)
        return ModelPrediction(value, {class_name(name): n / labels.count for name, n in labels.classes.items()})


class RunningLabels:
    """Statistics of labels that are never corrected, at the lowest cost: a running mean, or the count of each class."""

    def __init__(self, is_regression: bool) -> None:
        self.count, self.mean = 0, 0.0
        self.classes: dict[Scalar, int] = {}
        self._is_regression = is_regression

    def add(self, label: Scalar) -> None:
        """Count one label."""
        self.count += 1
        if self._is_regression:
            self.mean += (bounded(label) - self.mean) / self.count
        else:
            self.classes[label] = self.classes.get(label, 0) + 1
