"""A line that learns: one model with its whole history, predicting each outcome before it learns it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from everloop_learning.version import Version
from everloop_models import ModelBroken, OnlineModel
from everloop_models.formats import DEFAULT_FORMAT
from everloop_models.losses import Losses
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import Line, Trigger
from everloop_training.domain.outcome import Outcome

KEPT = 3
"""So many saved versions of a line are remembered: the last may have learned what broke the line."""


class LineBroken(Exception):
    """A line could not predict or learn an outcome; `suspects` are the offsets it is to do without."""

    def __init__(self, reason: str, suspects: set[int]) -> None:
        super().__init__(reason)
        self.reason, self.suspects = reason, frozenset(suspects)


@dataclass
class SavedVersion:
    """A version of a line whose artifact is in the store."""

    version: str
    uri: str
    sha256: str
    size: int
    format: str = DEFAULT_FORMAT


@dataclass(frozen=True)
class Kept:
    """A saved version with what the line had learned then: where the line can start again from."""

    saved: SavedVersion
    offset: int
    outcomes: int


@dataclass
class LearningLine:
    """A line at work. `next` is the offset it handles next; it is `joined` once that is the loop's own next.

    `offset` is the last outcome it learned, `outcomes` how many; `finished` says that its run has ended. `skipped`
    are the offsets it does not learn, because it broke there; `kept` its last saved versions, newest last.
    """

    line: Line
    model: OnlineModel
    trigger: Trigger
    revision: int
    spec: LoopSpec
    trace: str | None = None
    next: int = field(init=False)
    offset: int = field(init=False)
    outcomes: int = 0
    joined: bool = False
    finished: bool = False
    skipped: frozenset[int] = frozenset()
    kept: tuple[Kept, ...] = ()

    def __post_init__(self) -> None:
        self.next = self.line.start_offset
        self.offset = self.line.start_offset - 1

    @property
    def name(self) -> str:
        """Its name, `<slug>-<start offset>`."""
        return self.line.line

    @property
    def version(self) -> str:
        """What it is now, as a version: the line at the last outcome it learned."""
        return str(Version(self.name, self.offset))

    @property
    def saved(self) -> SavedVersion | None:
        """The artifact of the version that it is now, None where there is none."""
        last = self.kept[-1] if self.kept else None
        return last.saved if last and last.offset == self.offset else None

    def keep(self, saved: SavedVersion) -> None:
        """What it is now lies in the store."""
        self.kept = (*self.kept[-KEPT + 1 :], Kept(saved, self.offset, self.outcomes))

    def back_to(self, kept: Kept, model: OnlineModel) -> None:
        """Become again what was saved."""
        self.model, self.offset, self.outcomes, self.next = model, kept.offset, kept.outcomes, kept.offset + 1

    def step(self, outcome: Outcome, losses: Losses) -> float:
        """Predict, then learn, one learnable outcome; its loss in [0, 1].

        Raises LineBroken with the offsets that may be to blame: this one, and where it cannot even be predicted, the
        one learned before.
        """
        assert outcome.label is not None, "only learnable outcomes are stepped"
        said = None
        try:
            said = self.model.predict(outcome.features)
            loss = losses.loss(outcome.label, said.value, said.probabilities)
            self.model.learn(outcome.features, outcome.label)
        except ModelBroken as e:
            learned = {self.offset} if said is None and self.outcomes else set()
            raise LineBroken(f"at offset {outcome.offset}: {e.detail}", {outcome.offset} | learned) from e
        self.outcomes += 1
        self.offset = outcome.offset
        self.next = outcome.offset + 1
        return loss


def slug(model: ModelSpec) -> str:
    """A model's short name: its preset or its class, in words with hyphens."""
    if model.preset:
        return model.preset.replace("_", "-")
    name = (model.estimator or "").rpartition(".")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()
