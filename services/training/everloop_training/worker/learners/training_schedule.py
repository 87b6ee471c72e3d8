"""When a batch line is trained: soon at first, then less and less often, as a pure function of the outcome log."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.training import RunRequested

DEFAULT_WINDOW, DEFAULT_EVERY = 20_000, 2_000
FIRST_OUTCOMES = 500
"""The outcomes after which a line has its first training, unless it is trained more often."""
OUTCOMES_AFTER_CHANGE = 200
"""The outcomes of a new concept that are enough for a training."""


def window_of(model: ModelSpec) -> int:
    """The number of outcomes that a model is trained on, at most."""
    return model.window or DEFAULT_WINDOW


def every_of(model: ModelSpec) -> int:
    """The number of outcomes between two trainings of a model, at most."""
    return model.every or DEFAULT_EVERY


@dataclass
class TrainingSchedule:
    """The trainings of one line: after `due` outcomes since `origin`, then at twice as many, until each `every`.

    `origin` is the start of the line, or where the concept changed: then the data of a training begins no earlier, and
    `answered` is the run that answered the alert, until a training follows from it. `outcomes_before` is how many
    outcomes of the loop came before `origin`.
    """

    every: int
    origin: int
    outcomes_before: int
    due: int
    data_from: int = 0
    answered: RunRequested | None = None

    @classmethod
    def from_start(cls, model: ModelSpec, origin: int, outcomes_before: int) -> TrainingSchedule:
        """The schedule of a line that starts."""
        return cls(every_of(model), origin, outcomes_before, min(every_of(model), FIRST_OUTCOMES))

    @classmethod
    def from_change(cls, model: ModelSpec, answered: RunRequested, outcomes_before: int) -> TrainingSchedule:
        """The schedule of a line whose concept changed where the answer to the alert starts."""
        due = min(every_of(model), OUTCOMES_AFTER_CHANGE)
        origin = answered.data.start_offset
        return cls(every_of(model), origin, outcomes_before, due, origin, answered)

    def is_due(self, outcomes: int) -> bool:
        """Whether a training is due after so many outcomes of the loop."""
        return outcomes - self.outcomes_before >= self.due

    def advance(self, outcomes: int) -> None:
        """A training was requested after so many outcomes of the loop: the next one is due later."""
        while self.is_due(outcomes):
            self.due, self.answered = min(2 * self.due, self.due + self.every), None
