"""What a model can say of itself, beside its predictions, to those who explain them."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

from everloop_metrics import class_name
from everloop_models.model import Model, ModelPrediction
from everloop_schemas.envelope import Fields, Scalar

Method = Literal["linear", "tree", "permutation"]
Scale = Literal["probability", "log_odds", "margin", "value"]
"""What a score is: the probability of the predicted class, its log odds, or what goes into Softmax for it; a value."""


class Attribution(NamedTuple):
    """A score as a base and one contribution for each feature, which sum to it.

    `score` is what the model itself computes for the features, so that whoever reads it can compare; `scale` says what
    it is. `said` is the probability, or the value, that follows from the score; None where that alone does not tell it.
    """

    method: Method
    score: float
    base: float
    contributions: dict[str, float]
    scale: Scale
    said: float | None = None

    @property
    def total(self) -> float:
        """The base and all contributions."""
        return self.base + sum(self.contributions.values())


def score_of(prediction: ModelPrediction) -> tuple[str | None, float]:
    """The class that was predicted, None for a number, and its probability (1 where there is none), or the number."""
    value, probabilities = prediction
    if probabilities is not None:
        return class_name(value), probabilities.get(class_name(value), 0.0)
    if isinstance(value, bool | str):
        return class_name(value), 1.0
    return None, float(value)


@runtime_checkable
class AttributingModel(Model, Protocol):
    """A model whose family may allow an exact attribution."""

    @property
    def has_attribution(self) -> bool:
        """Whether its family does."""

    def attribute(self, features: Fields, value: Scalar) -> Attribution | None:
        """What the features contributed to the score of `value`, which it predicts; None where it cannot be told."""


@runtime_checkable
class ReferenceModel(Model, Protocol):
    """A model that knows what is usual."""

    def reference(self, features: Fields) -> Fields:
        """A usual value for each of these features, None where a missing one is as usual as any."""
