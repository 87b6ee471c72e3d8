"""How wrong a prediction was, as a number in [0, 1] that the gate can bet on."""

from __future__ import annotations

from collections.abc import Mapping

from everloop_metrics import brier_loss
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_shared.arithmetic import Spread, distance


class Losses:
    """Losses in [0, 1] of one loop's predictions.

    Classes: 0 or 1; with metric `log_loss` half the Brier score, which is proper and bounded. Numbers:
    e / (e + s) with e the absolute error and s how far the labels seen before usually lie from their centre
    (`Spread`), so that the scale is fixed before the outcome is known and no single label can move it far. Call
    `loss` of every line, then `learn` the label.
    """

    def __init__(self, spec: LoopSpec) -> None:
        self.regression = spec.task == "regression"
        self.brier = spec.metric == "log_loss"
        self.spread = Spread()

    def loss(self, label: Scalar, value: Scalar, probabilities: Mapping[str, float] | None = None) -> float:
        """The loss of saying `value` (with these probabilities) where the truth is `label`."""
        if self.regression:
            return self.spread.loss(distance(label, value))
        if not self.brier or not probabilities:
            return 0.0 if value == label else 1.0
        return brier_loss(label, probabilities)

    def learn(self, label: Scalar) -> None:
        """Move the scale on by one label."""
        if self.regression:
            self.spread.add(label)
