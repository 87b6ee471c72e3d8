"""The loss of a prediction, in [0, 1], by the metric of the spec, so that the gate can bet on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

from everloop_learning.class_costs import COSTED, REMEMBERED_OUTCOMES, ClassCosts
from everloop_metrics import brier_loss, class_name
from everloop_metrics.regression import LARGEST, QUANTILES, pinball_loss
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_shared.arithmetic import Spread, bounded, distance

BY_PROBABILITIES = frozenset(("log_loss", "brier", "ece", "roc_auc", "pr_auc"))
"""Metrics of probabilities."""
SQUARED = frozenset(("rmse", "r2"))
LARGEST_ERROR = 6.0
"""An error of so many times the usual one has the largest loss; a smaller bound would not see a model that is seldom
wrong, but then far."""
OUTLIER = 20.0
"""Among the usual errors, one counts as so many times the mean at most."""
LARGEST_SURPRISE = log(1_000)
"""A label that was given a probability of one in a thousand, or less, has the largest loss by `log_loss`, in nats."""


def prediction_error(is_regression: bool, prediction: Scalar, label: Scalar) -> float:
    """The absolute error of a number, finite; 0 or 1 for a class."""
    return distance(prediction, label) if is_regression else float(prediction != label)


def is_error_rate(spec: LoopSpec) -> bool:
    """Whether the mean of the losses is the share of wrong predictions."""
    return spec.metric == "accuracy"


@dataclass(slots=True)
class ServedErrors:
    """The usual error of what was served, as the metric takes it, on the last 1,000 to 2,000 outcomes.

    After the first 30 an error counts as at most `OUTLIER` times the usual one, so that no single label moves it far.
    """

    outcomes: float = 0.0
    total: float = 0.0

    def usual(self, first: float) -> float:
        """The mean; `first` before 30 outcomes, or without errors."""
        return self.total / self.outcomes if self.outcomes >= 30 and self.total else first

    def add(self, error: float, first: float, outlier: float) -> None:
        """Add the error of one served prediction."""
        if self.outcomes >= 30 and (usual := self.usual(first)):
            error = min(error, outlier * usual)
        self.outcomes, self.total = self.outcomes + 1, self.total + error
        if self.outcomes >= REMEMBERED_OUTCOMES:
            self.outcomes, self.total = self.outcomes / 2, self.total / 2


class Losses:
    """Losses in [0, 1] of one loop's predictions, by its metric.

    Classes: 0 or 1; what the mistake costs by F1, precision, recall or balanced accuracy (`ClassCosts`); how
    surprising the label was by `log_loss`, half the Brier score by other metrics of probabilities. Numbers: the error
    as the metric takes it, absolute, squared, as a share of the label, or weighed by its side, over that of an error
    of `LARGEST_ERROR` times the usual one of what was served, at most 1. So the scale is fixed before the outcome is
    known; before there are served errors it follows from how far labels usually are from their centre (`Spread`).
    Call `loss` for the prediction of each line, then `learn` the label once.
    """

    def __init__(
        self,
        spec: LoopSpec,
        spread: Spread | None = None,
        costs: ClassCosts | None = None,
        served: ServedErrors | None = None,
    ) -> None:
        self.regression, self.metric = spec.task == "regression", spec.metric
        self.spread = Spread() if spread is None else spread
        self.costs = ClassCosts() if costs is None else costs
        self.served = ServedErrors() if served is None else served

    @property
    def by_probabilities(self) -> bool:
        """Whether a loss follows from the probabilities of a prediction."""
        return not self.regression and self.metric in BY_PROBABILITIES

    def loss(self, label: Scalar, value: Scalar, probabilities: Mapping[str, float] | None = None) -> float:
        """The loss of predicting `value` (with these probabilities) for `label`."""
        if self.regression:
            return self._loss_of_number(label, value)
        if probabilities and self.metric == "log_loss":
            return _surprise(probabilities.get(class_name(label), 0.0))
        if probabilities and self.metric in BY_PROBABILITIES:
            return brier_loss(label, probabilities)
        if value == label:
            return 0.0
        return self.costs.cost(self.metric, label, value) if self.metric in COSTED else 1.0

    def learn(self, label: Scalar, served: Scalar) -> None:
        """Adapt the scale, or what mistakes cost, to one label and the prediction that was served on it."""
        if self.regression:
            power = 2.0 if self.metric in SQUARED else 1.0
            self.served.add(self._error_of_number(label, served), self._first_error(), OUTLIER**power)
            self.spread.add(label)
        elif self.metric in COSTED:
            self.costs.learn(label, served)

    def _loss_of_number(self, label: Scalar, value: Scalar) -> float:
        error = self._error_of_number(label, value)
        power = 2.0 if self.metric in SQUARED else 1.0
        largest = LARGEST_ERROR**power * self.served.usual(self._first_error())
        return min(1.0, error / largest) if largest else float(error > 0)

    def _error_of_number(self, label: Scalar, value: Scalar) -> float:
        """The error as the metric takes it, finite; mape does not count a label of 0."""
        if self.metric in QUANTILES:
            return min(LARGEST, pinball_loss(QUANTILES[self.metric], label, value))
        error = min(LARGEST, prediction_error(True, value, label))
        if self.metric == "mape":
            return min(LARGEST, error / size) if (size := abs(bounded(label))) else 0.0
        return error**2 if self.metric in SQUARED else error

    def _first_error(self) -> float:
        """What stands for the usual error before there is one: that of the centre of the labels."""
        width = min(self.spread.width, LARGEST)
        if self.metric in SQUARED:
            return width**2
        return 1.0 if self.metric == "mape" else width / 2 if self.metric in QUANTILES else width


def _surprise(probability: float) -> float:
    """The loss of a label that had this probability; not a number stays that."""
    return -log(min(max(probability, 0.001), 1.0)) / LARGEST_SURPRISE
