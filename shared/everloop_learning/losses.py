"""The loss of a prediction, in [0, 1], by the metric of the spec, so that the gate can bet on it."""

from __future__ import annotations

from collections.abc import Mapping

from everloop_learning.class_costs import COSTED, ClassCosts
from everloop_metrics import brier_loss
from everloop_metrics.regression import LARGEST, QUANTILES, pinball_loss
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_shared.arithmetic import Spread, bounded, distance

BY_PROBABILITIES = frozenset(("log_loss", "brier", "ece", "roc_auc", "pr_auc"))
"""Metrics of probabilities: their loss is half the Brier score, which is bounded and proper."""
SQUARED = frozenset(("rmse", "r2"))


def prediction_error(is_regression: bool, prediction: Scalar, label: Scalar) -> float:
    """The absolute error of a number, finite; 0 or 1 for a class."""
    return distance(prediction, label) if is_regression else float(prediction != label)


def is_error_rate(spec: LoopSpec) -> bool:
    """Whether the mean of the losses is the share of wrong predictions."""
    return spec.metric == "accuracy"


class Losses:
    """Losses in [0, 1] of one loop's predictions, by its metric.

    Classes: 0 or 1; what the mistake costs by F1, precision, recall or balanced accuracy (`ClassCosts`); half the Brier
    score by metrics of probabilities. Numbers: e / (e + s) with e the absolute error and s the usual distance of
    earlier labels from their centre (`Spread`), so that the scale is fixed before the outcome is known and no single
    label moves it far; with squares of both by rmse and r2, with the pinball error and s / 2 by pinball, and with the
    label's size in place of s by mape. Call `loss` for the prediction of each line, then `learn` the label once.
    """

    def __init__(self, spec: LoopSpec, spread: Spread | None = None, costs: ClassCosts | None = None) -> None:
        self.regression, self.metric = spec.task == "regression", spec.metric
        self.spread = Spread() if spread is None else spread
        self.costs = ClassCosts() if costs is None else costs

    @property
    def by_probabilities(self) -> bool:
        """Whether a loss follows from the probabilities of a prediction."""
        return not self.regression and self.metric in BY_PROBABILITIES

    def loss(self, label: Scalar, value: Scalar, probabilities: Mapping[str, float] | None = None) -> float:
        """The loss of predicting `value` (with these probabilities) for `label`."""
        if self.regression:
            return self._loss_of_number(label, value)
        if probabilities and self.metric in BY_PROBABILITIES:
            return brier_loss(label, probabilities)
        if value == label:
            return 0.0
        return self.costs.cost(self.metric, label, value) if self.metric in COSTED else 1.0

    def learn(self, label: Scalar, served: Scalar) -> None:
        """Adapt the scale, or what mistakes cost, to one label and the prediction that was served on it."""
        if self.regression:
            self.spread.add(label)
        elif self.metric in COSTED:
            self.costs.learn(label, served)

    def _loss_of_number(self, label: Scalar, value: Scalar) -> float:
        error, scale = prediction_error(True, value, label), self.spread.width
        if self.metric in SQUARED:
            error, scale = min(error, LARGEST) ** 2, min(scale, LARGEST) ** 2
        elif self.metric in QUANTILES:
            error, scale = pinball_loss(QUANTILES[self.metric], label, value), scale / 2
        elif self.metric == "mape":
            scale = abs(bounded(label))
            if not scale:
                return 0.0  # mape does not count it either
        return error / (error + scale) if error else 0.0
