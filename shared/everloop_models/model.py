"""What a model is, whatever library it is made with: it predicts, and an online model also learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from everloop_schemas.envelope import Fields, Scalar


class ModelPrediction(NamedTuple):
    """A value of the label's type, and for classes the probability of each by its name (None where unknown)."""

    value: Scalar
    probabilities: dict[str, float] | None


class Model(Protocol):
    """A model that serves. One thread at a time."""

    @property
    def format(self) -> str:
        """The name of its format in `everloop_models.formats.FORMATS`."""

    @property
    def signature(self) -> tuple[str, ...]:
        """The sorted names of the features it has learned from."""

    def predict(self, features: Fields) -> ModelPrediction:
        """The prediction for these features; raises ModelBroken where it fails or is not finite."""


@runtime_checkable
class OnlineModel(Model, Protocol):
    """A model that learns one label at a time."""

    def learn(self, features: Fields, label: Scalar) -> None:
        """Learn one label; raises ModelBroken where that fails."""


@runtime_checkable
class ManyRowsModel(Model, Protocol):
    """A model that predicts many rows in one call, for less than one by one."""

    def predict_many(self, rows: Sequence[Fields]) -> list[ModelPrediction]:
        """One prediction a row; raises ModelBroken where one of them fails."""
