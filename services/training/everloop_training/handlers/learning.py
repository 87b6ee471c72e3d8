"""What training does with each event, and with a person's request for a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.training import RunFinished, RunRequested
from everloop_shared.clock import Clock, system_clock
from everloop_shared.commands import Actor
from everloop_shared.messaging.routes import Position
from everloop_training.domain.run_quota import Requested, RunQuota
from everloop_training.errors import OutcomesNotLearned
from everloop_training.ports import Learners, OutcomeQueue, PersonalValues, RunLog


@dataclass
class Handlers:
    """Hands outcomes to the learners, whose events are published once they have learned, and starts requested runs."""

    loops: KnownLoops
    runs: RunLog
    outcomes: OutcomeQueue
    learners: Learners
    personal: PersonalValues
    clock: Clock = system_clock
    quota: RunQuota = field(default_factory=lambda: RunQuota(20))

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """A loop exists, or has changed; the runs of a lifetime that has ended are forgotten."""
        before = self.loops.get(event.loop)
        if self.loops.apply(event):
            if before is not None and (event.data.deleted or event.data.life != before.data.life):
                self.runs.forget(event.loop)
            self.learners.apply_loop_state(event)
        return []

    async def on_run_requested(self, event: RunRequested, at: Position) -> list[Event]:
        """A run is on the log; after a restart it is not requested again."""
        self.runs.add_requested(event)
        self.quota.add(event.team, event.data.run, event.time, self.clock())
        return []

    async def on_run_finished(self, event: RunFinished, at: Position) -> list[Event]:
        """The end of a run is on the log."""
        self.runs.add_finished(event)
        return []

    async def on_outcome_observed(self, event: OutcomeObserved, at: Position) -> list[Event]:
        """An outcome to learn; a repeated record is learned once."""
        self.loops.require_arrived(event.loop)
        await self.outcomes.put(at.partition, event.loop, await self.personal.outcome(event, at))
        return []

    async def on_drift_detected(self, event: DriftDetected, at: Position) -> list[Event]:
        """A drift: a fresh line from its change point where the spec asks, once the loop's cooldown has ended.

        Raises OutcomesNotLearned, to be retried, while the outcomes up to the drift are not learned.
        """
        if not event.data.has_outcomes:
            return []
        self.loops.require_arrived(event.loop)
        reply = await self.learners.request_drift_run(event, at)
        if reply.behind:
            raise OutcomesNotLearned(f"the outcomes up to offset {event.data.offset} are not learned yet")
        return [reply.run] if reply.run else []

    async def request_run(self, loop: str, reason: str, key: str | None, *, actor: Actor) -> list[RunRequested]:
        """A person requests a run, the same one under the same `key`; no event while there is no outcome to learn.

        Raises LoopNotFound, TooManyRuns, Unavailable.
        """
        runs, key = [run for run, _ in self.runs_of(loop)], key or str(uuid4())
        requested = [Requested(run.data.key, run.time) for run in runs if run.data.trigger == "manual"]
        with self.quota.admit(loop, f"manual/{key}", requested, self.clock(), actor.team):
            reply = await self.learners.request_manual_run(loop, key, reason)
            if reply.run:  # at once: the record takes a while to come back
                self.quota.add(actor.team, reply.run.data.run, reply.run.time, self.clock())
        if reply.behind:
            raise OutcomesNotLearned(f"the outcomes of {loop} are being learned again")
        return [reply.run.copy_with(**actor.as_fields(), team=actor.team)] if reply.run else []

    def runs_of(self, loop: str) -> list[tuple[RunRequested, RunFinished | None]]:
        """The runs of a loop's lifetime, oldest first; raises LoopNotFound."""
        state = self.loops.require(loop)
        return [run for run in self.runs.of(loop) if run[0].revision >= state.data.life]
