"""The loss of a prediction, in [0, 1], so that the gate can bet on it."""

from __future__ import annotations

from collections.abc import Mapping

from everloop_metrics import brier_loss
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_shared.arithmetic import Spread, distance


def prediction_error(is_regression: bool, prediction: Scalar, label: Scalar) -> float:
    """The absolute error of a number, finite; 0 or 1 for a class."""
    return distance(prediction, label) if is_regression else float(prediction != label)


class Losses:
    """Losses in [0, 1] of one loop's predictions.

    Classes: 0 or 1; with metric `log_loss` half the Brier score, which is proper and bounded. Numbers:
    e / (e + s) with e the absolute error and s the usual distance of earlier labels from their centre (`Spread`), so
    that the scale is fixed before the outcome is known and no single label moves it far. Call `loss` for the
    prediction of each line, then `learn` the label once.
    """

    def __init__(self, spec: LoopSpec, spread: Spread | None = None) -> None:
        self.regression = spec.task == "regression"
        self.brier = spec.metric == "log_loss"
        self.spread = Spread() if spread is None else spread

    def loss(self, label: Scalar, value: Scalar, probabilities: Mapping[str, float] | None = None) -> float:
        """The loss of predicting `value` (with these probabilities) for `label`."""
        if not self.regression and self.brier and probabilities:
            return brier_loss(label, probabilities)
        error = prediction_error(self.regression, value, label)
        return self.spread.loss(error) if self.regression else error

    def learn(self, label: Scalar) -> None:
        """Adapt the scale to one label."""
        if self.regression:
            self.spread.add(label)
