"""The step of online learning, predict, then learn: the loss counts a prediction made before its label was learned."""

from __future__ import annotations

from typing import NamedTuple

from everloop_learning.losses import Losses
from everloop_learning.outcome import Outcome
from everloop_models.errors import ModelBroken
from everloop_models.model import ModelPrediction, OnlineModel


class Step(NamedTuple):
    """A prediction made before its label was learned, and its loss in [0, 1]."""

    prediction: ModelPrediction
    loss: float


class StepFailed(Exception):
    """A model could not predict an outcome, or, where it `predicted`, not learn it."""

    def __init__(self, reason: str, predicted: bool) -> None:
        super().__init__(reason)
        self.reason, self.predicted = reason, predicted


def predict_then_learn(model: OnlineModel, outcome: Outcome, losses: Losses) -> Step:
    """Predict one learnable outcome with a model, then let the model learn it; raises StepFailed.

    `losses` learns the label afterwards, once for all models.
    """
    assert outcome.label is not None, "only learnable outcomes are learned"
    prediction = None
    try:
        prediction = model.predict(outcome.features)
        loss = losses.loss(outcome.label, prediction.value, prediction.probabilities)
        model.learn(outcome.features, outcome.label)
    except ModelBroken as e:
        raise StepFailed(f"at offset {outcome.offset}: {e.detail}", predicted=prediction is not None) from e
    return Step(prediction, loss)
