"""A line that learns nothing: it predicts each outcome with the model that was trained for it last."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from everloop_learning.losses import Losses
from everloop_learning.outcome import Outcome
from everloop_learning.step import Step
from everloop_models import ArtifactMissing, ArtifactUnavailable, Model, ModelBroken
from everloop_schemas.training import DataSet, Line, StoredModel
from everloop_training.worker.learners.learning_line import LineBroken, LoopLine, RestartPoint, SavedVersion

log = logging.getLogger(__name__)
COMPARED_AFTER_OUTCOMES = 30
"""The outcomes that a line predicts with a new model before a version of it may refresh the one that serves."""


@dataclass(frozen=True)
class LineModel:
    """A model that a line predicts with, on the outcomes after offset `after`; where it comes from, as in RunFinished.

    `run` is the one that trained it, or the one of a submitted model.
    """

    after: int
    run: str
    stored: StoredModel
    data_set: DataSet | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    trainer: str | None = None


class ModelInterface(NamedTuple):
    """How a model is fed, as its manifest says."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    opset: int


@dataclass
class PredictingLine(LoopLine):
    """A batch line, a line of a trainer elsewhere, or a submitted model.

    `models` are those that were trained for it, oldest first; the last one with `after` below an outcome predicts it.
    A snapshot does not hold `model`, which is loaded again from the store: the line is `waiting` while that fails, and
    has to catch up; `is_gone` says that it was deleted. `predicted` counts the outcomes that it predicted with the
    model it has, `failures` those that it broke on; `version_of` is the sha256 of the model in its last version.
    """

    models: list[LineModel] = field(kw_only=True)
    source: LineModel | None = field(default=None, init=False)
    model: Model | None = field(default=None, init=False)
    interface: ModelInterface | None = field(default=None, init=False)
    waiting: bool = field(default=False, init=False)
    is_gone: bool = field(default=False, init=False)
    predicted: int = field(default=0, init=False)
    failures: int = field(default=0, init=False)
    version_of: str | None = field(default=None, init=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "model": None}

    @property
    def reported(self) -> Line:
        """The line with the run that trained its model, so that a decision about it leads to the data set."""
        return self.line if self.source is None else self.line.model_copy(update={"run": self.source.run})

    @property
    def format(self) -> str:
        """The format of its model."""
        assert self.source is not None, "only a line with a model becomes a version"
        return self.source.stored.format

    @property
    def signature(self) -> tuple[str, ...]:
        """The sorted names of the features that its model needs."""
        assert self.source is not None, "only a line with a model becomes a version"
        return self.source.stored.signature

    @property
    def can_be_version(self) -> bool:
        """Whether it has predicted an outcome with the model it has: a version is named after such an outcome."""
        return self.source is not None and self.predicted > 0

    def is_refresh_due(self, every: int, serving: frozenset[str | None]) -> bool:
        """Whether its model is another than the one that serves, and has predicted enough to be compared."""
        if self.source is None or self.predicted < COMPARED_AFTER_OUTCOMES:
            return False
        return self.source.stored.sha256 not in serving | {self.version_of}

    def describe_model(self) -> dict[str, Any]:
        """What the manifest of a version says of its model, as fields of `Manifest`."""
        source = self.source
        assert source is not None, "only a line with a model becomes a version"
        known = {"data_set": source.data_set, "metrics": dict(source.metrics), "trainer": source.trainer}
        if self.interface is None:
            return known
        ports = {"inputs": self.interface.input_names, "outputs": self.interface.output_names}
        return {**known, **ports, "opset": self.interface.opset}

    def model_for(self, offset: int) -> LineModel | None:
        """Which model predicts the outcome at an offset, None before the first."""
        return next((m for m in reversed(self.models) if m.after < offset), None)

    def load_for(self, offset: int, load: Callable[[StoredModel], Model]) -> None:
        """Have the model for an offset, if there is one; `waiting` where it cannot be loaded now.

        An earlier model may have been deleted from the store: the outcomes up to the next one are passed over.
        Raises ArtifactCorrupt.
        """
        source, was_waiting, self.waiting = self.model_for(offset), self.waiting, False
        if source == self.source and (source is None or self.model is not None or self.is_gone):
            return
        try:
            self._use(source, load(source.stored) if source else None)
        except ArtifactMissing as e:
            self._use(source, None)
            self.is_gone = source is not self.models[-1]
            self._wait(not self.is_gone, was_waiting, e)
        except ArtifactUnavailable as e:
            self._wait(True, was_waiting, e)

    def take(self, source: LineModel, model: Model, saved: SavedVersion) -> PredictingLine | None:
        """Take a model that was trained for it; returns the line as the version `saved`, once it has come that far.

        None where it has a version of this name already, with another model.
        """
        if self.restart_points and self.restart_points[-1].offset == source.after:
            return None
        self.restart_points = (RestartPoint(saved, source.after, self.outcomes),)
        if self.caught_up:
            self._use(source, model)
        new = copy(self)
        new._use(source, model)
        return new

    def add_restart_point(self, saved: SavedVersion) -> None:
        """Remember that it is stored as it is now; it is a version, with the model it has."""
        super().add_restart_point(saved)
        self.version_of = saved.sha256

    def _use(self, source: LineModel | None, model: Model | None) -> None:
        if source != self.source:
            self.predicted, self.failures, self.interface = 0, 0, None
        if (has := getattr(model, "interface", None)) is not None:  # an ONNX model's
            self.interface = ModelInterface(has.input_names, has.output_names, has.opset)
        self.source, self.model, self.is_gone = source, model, False

    def _wait(self, waits: bool, was_waiting: bool, reason: ArtifactUnavailable) -> None:
        self.waiting = waits
        if not was_waiting:
            log.warning("model not loaded", extra={"line": self.name, "tries_again": waits, "reason": reason.detail})

    def predict(self, outcome: Outcome, losses: Losses) -> Step:
        """Predict one learnable outcome; returns the prediction with its loss, in [0, 1]. Raises LineBroken."""
        assert self.model is not None, "loaded before"
        assert outcome.label is not None, "only learnable outcomes are predicted"
        try:
            prediction = self.model.predict(outcome.features)
            loss = losses.loss(outcome.label, prediction.value, prediction.probabilities)
        except Exception as e:  # made elsewhere, it may raise anything: that must not cost the loop the outcome
            reason = e.detail if isinstance(e, ModelBroken) else f"{e!r:.300}"
            raise LineBroken(f"at offset {outcome.offset}: {reason}", outcome, {outcome.offset}) from e
        if not (math.isfinite(loss) and (isinstance(prediction.value, str) or math.isfinite(prediction.value))):
            raise LineBroken(f"at offset {outcome.offset}: its prediction is not finite", outcome, {outcome.offset})
        self.outcomes, self.predicted = self.outcomes + 1, self.predicted + 1
        self.offset, self.next_offset = outcome.offset, outcome.offset + 1
        return Step(prediction, loss)
