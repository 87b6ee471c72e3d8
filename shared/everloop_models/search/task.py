"""One trial as a task that any pool may run, its result, and the protocol of pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from everloop_models.errors import ModelSpecInvalid
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FeatureSpec, ModelSpec
from everloop_schemas.search import Parameters

FIXED_KEYS = ("preset", "estimator", "trainer", "every")
"""Keys of a model that no trial changes."""
REASON_CHARACTERS = 1_000


class TrialTask(BaseModel):
    """A model of the loop with `parameters` in place of its own, to be judged by `metric` on the data in `folder`.

    It ends early, as pruned, where the mean of its first n folds is worse than number n - 1 of `thresholds`. With
    `feature` the rows have this feature too.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, allow_inf_nan=False)

    folder: Path
    spec: LoopSpec
    model: ModelSpec
    index: int
    metric: str
    parameters: Parameters = {}
    thresholds: tuple[float | None, ...] = ()
    feature: FeatureSpec | None = None

    @property
    def field(self) -> str:
        """The model as errors name it."""
        return f"models.{self.index}"

    def changed_model(self) -> ModelSpec:
        """The model with the parameters of this trial; raises ModelSpecInvalid."""
        for name in self.parameters:
            if name in FIXED_KEYS:
                raise ModelSpecInvalid(f"{self.field}.{name}", "is no parameter; a search cannot change it")
        try:
            return with_parameters(self.model, self.parameters)
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            where = ".".join((self.field, *map(str, first["loc"])))
            raise ModelSpecInvalid(where, first["msg"]) from e


def with_parameters(model: ModelSpec, values: Mapping[str, Scalar | None]) -> ModelSpec:
    """The model with these parameters in place of its own ones of the same names; raises ValidationError."""
    return ModelSpec.model_validate({**model.model_dump(mode="json", exclude_unset=True), **values})


class Evaluation(BaseModel):
    """What came of a task: the score of each fold, and on what was learned before it, where that means something."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, allow_inf_nan=False)

    state: Literal["complete", "pruned", "failed"]
    folds: tuple[float, ...] = ()
    train_folds: tuple[float, ...] = ()
    score: float | None = None
    train_score: float | None = None
    gap: float | None = None
    seconds: float = 0.0
    reason: str | None = None

    @classmethod
    def failed(cls, reason: str, seconds: float = 0.0) -> Evaluation:
        """Of a trial that has no score."""
        return cls(state="failed", reason=reason[:REASON_CHARACTERS], seconds=seconds)


class Pool(Protocol):
    """Runs `everloop_models.search.evaluation.evaluate` on tasks, several at a time, wherever it likes.

    A task is a pure function of itself and the files of its folder, so that it may run again, or elsewhere. What a
    process that was killed had is run once more; after that, and where a task exceeds memory or time, its evaluation
    is `failed` with the reason.
    """

    async def run(self, tasks: Sequence[TrialTask], seconds: float) -> list[Evaluation]:
        """The evaluations in the order of the tasks, each of which may take `seconds`."""
