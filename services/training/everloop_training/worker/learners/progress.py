"""How far the learning of one loop has come, shared by the parts of its learner."""

from __future__ import annotations

from dataclasses import dataclass, field

from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_training.worker.learners.outcome_offsets import OutcomeOffsets
from everloop_training.worker.learners.training_schedule import window_of


@dataclass
class LoopProgress:
    """The loop's state, and its place on the outcome log.

    `position` is the offset of the last record taken in, `first_offset` that of the first; `outcomes` counts those
    that were learned, and `offsets` are where the last of them are. `waiting_alert` is the drift whose run waits for
    the end of the cooldown.
    """

    state: LoopState
    offsets: OutcomeOffsets = field(default_factory=OutcomeOffsets)
    position: int = -1
    first_offset: int | None = None
    outcomes: int = 0
    waiting_alert: DriftDetected | None = None

    @property
    def spec(self) -> LoopSpec:
        """The loop's spec as of its state."""
        return self.state.data.spec

    def count(self, offset: int) -> None:
        """Count an outcome that was learned."""
        self.outcomes += 1
        windows = [window_of(model) for model in self.spec.models if model.kind != "online"]
        if self.spec.search is not None:
            windows.append(self.spec.search.window)
        self.offsets.add(offset, max(windows, default=0))
