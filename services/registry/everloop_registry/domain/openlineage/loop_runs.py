"""The runs of a loop that a lineage backend was told of, and whose end it was not."""

from __future__ import annotations

from pydantic import Field

from everloop_schemas.envelope import ControlData
from everloop_schemas.registry import BASELINE

MAX_OPEN_TRAININGS = 200
"""Of a loop: of the oldest ones beyond it no end is told where the loop is deleted."""


class LoopRuns(ControlData):
    """Open runs: trainings by id with their revision, a rollout and its candidate, and the champion that serves.

    `rollout` and `serve` are the ids of their runs, as the backend has them.
    """

    trainings: dict[str, int] = Field(default_factory=dict)
    rollout: str | None = None
    candidate: str | None = None
    serve: str | None = None
    champion: str = BASELINE

    def with_training(self, run: str, revision: int) -> LoopRuns:
        """One more training."""
        known = {**self.trainings, run: revision}
        return self.model_copy(update={"trainings": dict(list(known.items())[-MAX_OPEN_TRAININGS:])})

    def without_training(self, run: str) -> LoopRuns:
        """The training has ended."""
        return self.model_copy(update={"trainings": {k: v for k, v in self.trainings.items() if k != run}})
