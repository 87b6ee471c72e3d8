"""A line that learns: one model with its whole history, predicting each outcome before it learns it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from everloop_models import Losses, Model
from everloop_schemas.loop import ModelSpec
from everloop_schemas.training import Line, Trigger
from everloop_training.domain.outcome import Outcome


@dataclass
class SavedVersion:
    """A version of a line whose artifact is in the store."""

    version: str
    uri: str
    sha256: str
    size: int


@dataclass
class LearningLine:
    """A line at work. `next` is the offset it handles next; it is `joined` once that is the loop's own next.

    `offset` is the last outcome it learned, `outcomes` how many; `finished` says that its run has ended.
    """

    line: Line
    model: Model
    trigger: Trigger
    revision: int
    trace: str | None = None
    next: int = field(init=False)
    offset: int = field(init=False)
    outcomes: int = 0
    joined: bool = False
    finished: bool = False
    saved: SavedVersion | None = None

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
        return f"{self.name}@{self.offset}"

    def step(self, outcome: Outcome, losses: Losses) -> float:
        """Predict, then learn, one learnable outcome; its loss in [0, 1]. Raises ModelBroken."""
        assert outcome.label is not None, "only learnable outcomes are stepped"
        said = self.model.predict(outcome.features)
        loss = losses.loss(outcome.label, said.value, said.probabilities)
        self.model.learn(outcome.features, outcome.label)
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
