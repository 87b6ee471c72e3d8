"""How wrong a prediction was, as a number in [0, 1] that the gate can bet on."""

from __future__ import annotations

from collections.abc import Mapping

from everloop_models.model import class_name
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec


class Losses:
    """Losses in [0, 1] of one loop's predictions.

    Classes: 0 or 1; with metric `log_loss` half the Brier score, which is proper and bounded. Numbers:
    e / (e + s) with e the absolute error and s the running mean absolute deviation of the labels seen before,
    so that the scale is fixed before the outcome is known. Call `loss` of every line, then `learn` the label.
    """

    def __init__(self, spec: LoopSpec) -> None:
        self.regression = spec.task == "regression"
        self.brier = spec.metric == "log_loss"
        self.count = 0
        self.mean = 0.0
        self.deviation = 0.0

    def loss(self, label: Scalar, value: Scalar, probabilities: Mapping[str, float] | None = None) -> float:
        """The loss of saying `value` (with these probabilities) where the truth is `label`."""
        if self.regression:
            error = abs(float(label) - float(value))
            return error / (error + self.deviation) if error else 0.0
        if not self.brier or not probabilities:
            return 0.0 if value == label else 1.0
        truth = class_name(label)
        others = sum(p * p for name, p in probabilities.items() if name != truth)
        return min(1.0, (others + (1.0 - probabilities.get(truth, 0.0)) ** 2) / 2)

    def learn(self, label: Scalar) -> None:
        """Move the scale on by one label."""
        if self.regression:
            self.count += 1
            value = float(label)
            away = abs(value - self.mean) if self.count > 1 else 0.0
            self.mean += (value - self.mean) / self.count
            self.deviation += (away - self.deviation) / self.count
