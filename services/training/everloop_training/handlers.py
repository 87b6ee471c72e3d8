"""What training does with each event, and with a person's wish for a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.training import RunFinished, RunRequested
from everloop_shared.clock import Clock, system_clock
from everloop_shared.messaging.routes import Position
from everloop_training.errors import TooManyRuns
from everloop_training.ports import Learners, RunLog

HOUR = timedelta(hours=1)


@dataclass
class Handlers:
    """Outcomes go to the learners, whose events come back on their own way; alerts are answered with their run."""

    loops: KnownLoops
    runs: RunLog
    learners: Learners
    clock: Clock = system_clock
    max_runs_per_hour: int = 20
    _asked: Counter[str] = field(default_factory=Counter, init=False)

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """A loop exists, or has changed."""
        before = self.loops.get(event.loop)
        if self.loops.apply(event):
            if before is not None and (event.data.deleted or event.data.life != before.data.life):
                self.runs.forget(event.loop)
            self.learners.follow(event)
        return []

    async def on_run_requested(self, event: RunRequested, at: Position) -> list[Event]:
        """A run is on the log: what is there is not asked for again after a restart."""
        self.runs.requested(event)
        return []

    async def on_run_finished(self, event: RunFinished, at: Position) -> list[Event]:
        """The end of a run is on the log."""
        self.runs.finished(event)
        return []

    async def on_outcome_observed(self, event: OutcomeObserved, at: Position) -> list[Event]:
        """An outcome to learn."""
        self.loops.require_arrived(event.loop)
        await self.learners.learn(event, at)
        return []

    async def on_drift_detected(self, event: DriftDetected, at: Position) -> list[Event]:
        """A drift of the served error: a fresh line from its change point, unless a run was just made."""
        if not event.data.is_served_error_drift:
            return []
        self.loops.require_arrived(event.loop)
        return list(await self.learners.on_drift(event, at.partition, at.offset))

    async def request_run(self, loop: str, reason: str, key: str | None) -> RunRequested | None:
        """A person asks for a run; the same `key` is the same run, None while there is nothing to learn from.

        Raises LoopNotFound, TooManyRuns, Unavailable.
        """
        self.loops.require(loop)
        key = key or str(uuid4())
        with self._admitted(loop, f"manual/{key}"):
            return await self.learners.request_run(loop, key, reason)

    @contextmanager
    def _admitted(self, loop: str, key: str) -> Iterator[None]:
        """Count a run that a person asks for, while it is on its way; raises TooManyRuns unless it was made before."""
        since, runs = self.clock() - HOUR, [run for run, _ in self.runs_of(loop)]
        lately = sum(run.data.trigger == "manual" and run.time > since for run in runs)
        known = any(run.data.key == key for run in runs)
        if not known and lately + self._asked[loop] >= self.max_runs_per_hour:
            raise TooManyRuns(
                f"{self.max_runs_per_hour} runs of {loop} were asked for within an hour, the limit "
                "(EVERLOOP_TRAINING_MAX_RUNS_PER_HOUR); ask again later, or with the key of one of them"
            )
        self._asked[loop] += 1
        try:
            yield
        finally:
            self._asked[loop] -= 1
            self._asked += Counter()  # without those at 0

    def runs_of(self, loop: str) -> list[tuple[RunRequested, RunFinished | None]]:
        """A loop's runs, oldest first; raises LoopNotFound."""
        state = self.loops.require(loop)
        return [run for run in self.runs.of(loop) if run[0].revision >= state.data.life]
