"""A line at work, and the one that learns: a model with its whole history, predicting each outcome before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from everloop_learning.losses import Losses
from everloop_learning.outcome import Outcome
from everloop_learning.step import Step, StepFailed, predict_then_learn
from everloop_learning.version import Version
from everloop_models import OnlineModel
from everloop_models.errors import NOT_TOLD
from everloop_models.formats import DEFAULT_FORMAT
from everloop_models.scaling import FIRST_VALUES
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import Line, Trigger

RESTART_POINTS_KEPT = 3
"""Saved versions of a line to start again from: more than one, because the last may have learned what broke it."""


class LineBroken(Exception):
    """A line could not predict or learn an outcome; `suspects` are the offsets that it has to skip from now on.

    `reason` says nothing of an outcome with personal values, because it is published and logged.
    """

    def __init__(self, reason: str, outcome: Outcome, suspects: set[int]) -> None:
        self.reason = f"at offset {outcome.offset}: its model failed; {NOT_TOLD}" if outcome.opened else reason
        self.suspects = frozenset(suspects)
        super().__init__(self.reason)


@dataclass
class SavedVersion:
    """A version of a line whose artifact is in the store."""

    version: str
    uri: str
    sha256: str
    size: int
    format: str = DEFAULT_FORMAT


@dataclass(frozen=True)
class RestartPoint:
    """A saved version that its line can start again from, with the last offset and the outcomes it had learned."""

    saved: SavedVersion
    offset: int
    outcomes: int


@dataclass
class LoopLine(ABC):
    """A line of a loop and how far it has come.

    `next_offset` is the offset it handles next; it is `caught_up` once that is the next one of the loop. `offset` is
    the last outcome it predicted, and learned where it learns, `outcomes` how many; `finished` says that its run has
    ended. It skips the offsets in `skipped`, because it broke there. `restart_points` are its last saved versions,
    newest last. `refreshed_at` is the time on the log of its last refresh, in seconds since the epoch. `weighed_at` is
    how many outcomes it had when the importance of its features was found last.
    """

    line: Line
    trigger: Trigger
    revision: int
    spec: LoopSpec
    trace: str | None = None
    next_offset: int = field(init=False)
    offset: int = field(init=False)
    outcomes: int = 0
    caught_up: bool = False
    finished: bool = False
    skipped: frozenset[int] = frozenset()
    restart_points: tuple[RestartPoint, ...] = ()
    refreshed_at: float = 0.0
    weighed_at: int = 0

    def __post_init__(self) -> None:
        self.next_offset = self.line.start_offset
        self.offset = self.line.start_offset - 1

    @property
    def name(self) -> str:
        """Its name, `<slug>-<start offset>`."""
        return self.line.line

    @property
    def version(self) -> str:
        """The version that the line is now: the line at the last outcome it learned."""
        return str(Version(self.name, self.offset))

    @property
    def reported(self) -> Line:
        """The line as its losses are reported, with the run behind the model that it predicts with."""
        return self.line

    @property
    @abstractmethod
    def format(self) -> str:
        """The format of its model."""

    @property
    @abstractmethod
    def signature(self) -> tuple[str, ...]:
        """The sorted names of the features that its model needs."""

    @property
    @abstractmethod
    def can_be_version(self) -> bool:
        """Whether the line as it is now may become a version."""

    @property
    def version_after(self) -> int:
        """The outcomes after which it may become a version."""
        return 0

    @abstractmethod
    def is_refresh_due(self, every: int, serving: frozenset[str | None]) -> bool:
        """Whether serving needs what the line is now; `serving` are the sha256 of its versions that serve."""

    def describe_model(self) -> dict[str, Any]:
        """What the manifest of a version says of a model that was not made here, as fields of `Manifest`."""
        return {}

    @property
    def saved(self) -> SavedVersion | None:
        """The artifact of the version that the line is now, None where it is not stored."""
        last = self.restart_points[-1] if self.restart_points else None
        return last.saved if last and last.offset == self.offset else None

    def add_restart_point(self, saved: SavedVersion) -> None:
        """Remember the artifact of the line as it is now."""
        point = RestartPoint(saved, self.offset, self.outcomes)
        self.restart_points = (*self.restart_points[-RESTART_POINTS_KEPT + 1 :], point)


@dataclass
class LearningLine(LoopLine):
    """A line that learns each outcome after it has predicted it."""

    model: OnlineModel = field(kw_only=True)

    @property
    def format(self) -> str:
        """The format of its model."""
        return self.model.format

    @property
    def signature(self) -> tuple[str, ...]:
        """The sorted names of the features that its model has learned from."""
        return self.model.signature

    @property
    def can_be_version(self) -> bool:
        """Whether it has learned anything, and its model keeps no rows of persons any more."""
        return self.outcomes >= max(1, self.version_after)

    @property
    def version_after(self) -> int:
        """A model keeps its first rows until it knows the scales; those of persons must not be stored."""
        return FIRST_VALUES + 1 if self.spec.personal_features else 0

    def is_refresh_due(self, every: int, serving: frozenset[str | None]) -> bool:
        """Whether it has learned another `every` outcomes."""
        return self.outcomes % max(1, every) == 0 and self.can_be_version

    def restart_from(self, point: RestartPoint, model: OnlineModel) -> None:
        """Become the saved version again, with its model as loaded from the store."""
        self.model, self.offset, self.outcomes = model, point.offset, point.outcomes
        self.next_offset = point.offset + 1
        self.restart_points = (point,)

    def predict_then_learn(self, outcome: Outcome, losses: Losses) -> Step:
        """Predict one learnable outcome, then learn it; returns the prediction with its loss, in [0, 1].

        Raises LineBroken. Its suspects are this offset and, where the model could not even predict, also the offset
        that it learned before.
        """
        try:
            step = predict_then_learn(self.model, outcome, losses)
        except StepFailed as e:
            learned_before = {self.offset} if not e.predicted and self.outcomes else set()
            raise LineBroken(e.reason, outcome, {outcome.offset} | learned_before) from e
        self.outcomes += 1
        self.offset = outcome.offset
        self.next_offset = outcome.offset + 1
        return step
