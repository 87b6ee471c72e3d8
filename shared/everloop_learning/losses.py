"""The loss of a prediction, in [0, 1], by the metric of the spec, so that the gate can bet on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from everloop_learning.class_costs import COSTED, REMEMBERED_OUTCOMES, ClassCosts
from everloop_metrics import brier_loss
from everloop_metrics.regression import LARGEST, QUANTILES, pinball_loss
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_shared.arithmetic import Spread, bounded, distance

BY_PROBABILITIES = frozenset(("log_loss", "brier", "ece", "roc_auc", "pr_auc"))
"""Metrics of probabilities: their loss is half the Brier score, which is bounded and proper."""
SQUARED = frozenset(("rmse", "r2"))
USUAL_SQUARES = 36.0
"""A squared error of so many times the usual one, an error of six times its root, has the largest loss."""


def prediction_error(is_regression: bool, prediction: Scalar, label: Scalar) -> float:
    """The absolute error of a number, finite; 0 or 1 for a class."""
    return distance(prediction, label) if is_regression else float(prediction != label)


def is_error_rate(spec: LoopSpec) -> bool:
    """Whether the mean of the losses is the share of wrong predictions."""
    return spec.metric == "accuracy"


@dataclass(slots=True)
class ServedSquares:
    """The usual squared error of what was served, on the last 1,000 to 2,000 outcomes.

    After the first 30 a square counts as at most 400 times the usual one, so that no single label moves it far.
    """

    outcomes: float = 0.0
    total: float = 0.0

    def usual(self, width: float) -> float:
        """The mean square; before 30 outcomes, or without errors, the square of the labels' `width`."""
        return self.total / self.outcomes if self.outcomes >= 30 and self.total else min(width, LARGEST) ** 2

    def add(self, error: float, width: float) -> None:
        """Add the error of one served prediction."""
        square = min(error, LARGEST) ** 2
        if self.outcomes >= 30 and (usual := self.usual(width)):
            square = min(square, 400 * usual)
        self.outcomes, self.total = self.outcomes + 1, self.total + square
        if self.outcomes >= REMEMBERED_OUTCOMES:
            self.outcomes, self.total = self.outcomes / 2, self.total / 2


class Losses:
    """Losses in [0, 1] of one loop's predictions, by its metric.

    Classes: 0 or 1; what the mistake costs by F1, precision, recall or balanced accuracy (`ClassCosts`); half the Brier
    score by metrics of probabilities. Numbers: e / (e + s) with e the absolute error and s the usual distance of
    earlier labels from their centre (`Spread`), so that the scale is fixed before the outcome is known and no single
    label moves it far; with the pinball error and s / 2 by pinball, and with the label's size in place of s by mape. By
    rmse and r2 it is the squared error over 36 times the usual one of what was served, at most 1. Call `loss` for the
    prediction of each line, then `learn` the label once.
    """

    def __init__(
        self,
        spec: LoopSpec,
        spread: Spread | None = None,
        costs: ClassCosts | None = None,
        squares: ServedSquares | None = None,
    ) -> None:
        self.regression, self.metric = spec.task == "regression", spec.metric
        self.spread = Spread() if spread is None else spread
        self.costs = ClassCosts() if costs is None else costs
        self.squares = ServedSquares() if squares is None else squares

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
        if self.metric in SQUARED:
            self.squares.add(prediction_error(True, served, label), self.spread.width)
        if self.regression:
            self.spread.add(label)
        elif self.metric in COSTED:
            self.costs.learn(label, served)

    def _loss_of_number(self, label: Scalar, value: Scalar) -> float:
        error, scale = prediction_error(True, value, label), self.spread.width
        if self.metric in SQUARED:
            largest = USUAL_SQUARES * self.squares.usual(scale)
            return min(1.0, min(error, LARGEST) ** 2 / largest) if largest else float(error > 0)
        if self.metric in QUANTILES:
            error, scale = pinball_loss(QUANTILES[self.metric], label, value), scale / 2
        elif self.metric == "mape":
            scale = abs(bounded(label))
            if not scale:
                return 0.0  # mape does not count it either
        return error / (error + scale) if error else 0.0
