"""The learners of one partition of outcomes, by loop."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from everloop_training.worker.learners.loop_learner import LoopLearner
from everloop_training.worker.protocol import messages

log = logging.getLogger(__name__)


@dataclass
class PartitionLearners:
    """An open partition: its learners by loop, its next offsets, and how much its snapshot does not hold yet."""

    opened: messages.OpenPartition
    next_offset: int
    next_alert: int
    learners: dict[str, LoopLearner]
    saved_at: float
    unsaved: int = 0
    changed: bool = False

    def adopt_runs(self, learner: LoopLearner) -> None:
        """Let a learner take over its runs and searches from the log."""
        state = learner.state
        runs = [r for r in self.opened.runs if r.loop == state.loop and r.revision >= state.data.life]
        try:
            learner.runs.adopt(runs, self.opened.ends)
        except Exception as e:  # a run that cannot be taken over must not cost the partition
            log.error("runs not taken over from the log", extra={"loop": learner.loop}, exc_info=e)
        searches = (s for s in self.opened.searches if s.loop == state.loop and s.revision >= state.data.life)
        learner.searches.adopt(searches)

    def go_live(self) -> None:
        """Let owed versions be made, once the log is learned up to where it ended when the partition was opened."""
        if self.next_offset >= self.opened.end:
            for learner in self.learners.values():
                learner.live = True
