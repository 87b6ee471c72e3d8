"""How far the learning of one loop has come, shared by the parts of its learner."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_training.worker.learners.triggers import WINDOW_OUTCOMES


@dataclass
class LoopProgress:
    """The loop's state, and its place on the outcome log.

    `position` is the offset of the last record taken in, `first_offset` that of the first; `outcomes` counts those
    that were learned, and `recent_offsets` are the offsets of the last of them. `waiting_alert` is the drift whose run
    waits for the end of the cooldown.
    """

    state: LoopState
    position: int = -1
    first_offset: int | None = None
    outcomes: int = 0
    recent_offsets: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW_OUTCOMES))
    waiting_alert: DriftDetected | None = None

    @property
    def spec(self) -> LoopSpec:
        """The loop's spec as of its state."""
        return self.state.data.spec
