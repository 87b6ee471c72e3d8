"""Predict, then learn: the loss is that of a prediction made before its label was learned."""

from __future__ import annotations

import pytest
from tests.builders.loops import loop_spec

from everloop_learning.losses import Losses
from everloop_learning.outcome import Outcome
from everloop_learning.step import StepFailed, predict_then_learn
from everloop_models import ModelBroken, ModelPrediction
from everloop_schemas.envelope import Fields, Scalar

SPEC = loop_spec(schema={"a": {"type": "number"}})
OUTCOME = Outcome(7, 0.0, "o", {"a": 1.0}, True, True, False, False, None)


class LastLabel:
    """A model that predicts the label that it learned last; it breaks where it is told to."""

    format = "test"
    signature = ("a",)

    def __init__(self, breaks_on: str = "") -> None:
        self._label: Scalar = False
        self._breaks_on = breaks_on

    def predict(self, features: Fields) -> ModelPrediction:
        """The last label."""
        if self._breaks_on == "predict":
            raise ModelBroken("not finite")
        return ModelPrediction(self._label, None)

    def learn(self, features: Fields, label: Scalar) -> None:
        """Remember the label."""
        if self._breaks_on == "learn":
            raise ModelBroken("too large")
        self._label = label


def test_the_loss_is_that_of_the_prediction_before_the_label_is_learned() -> None:
    model, losses = LastLabel(), Losses(SPEC)

    steps = [predict_then_learn(model, OUTCOME, losses) for _ in range(2)]

    assert [(step.prediction.value, step.loss) for step in steps] == [(False, 1.0), (True, 0.0)]


@pytest.mark.parametrize(("breaks_on", "predicted"), [("predict", False), ("learn", True)])
def test_a_model_that_breaks_says_where_and_whether_it_could_predict(breaks_on: str, predicted: bool) -> None:
    with pytest.raises(StepFailed, match="at offset 7") as caught:
        predict_then_learn(LastLabel(breaks_on), OUTCOME, Losses(SPEC))

    assert caught.value.predicted is predicted
