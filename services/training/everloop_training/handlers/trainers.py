"""What training does with the requests of trainers elsewhere: they take runs, renew their leases, and answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from uuid import uuid4

from everloop_features import compile_features
from everloop_features.samples import sample_vectors
from everloop_learning.loops import KnownLoops
from everloop_models.intake import CheckedModel
from everloop_schemas.training import RunFinished, RunRequested, StoredModel
from everloop_shared.clock import Clock, system_clock
from everloop_training.domain.leases import MAX_LEASES, Lease, Leases
from everloop_training.domain.trained_model import REASON_CHARACTERS, TrainedModel
from everloop_training.domain.trainer_run import TrainerAnswer, is_for_trainers, newer_run, open_for
from everloop_training.errors import LeaseEnded, RunEndedOtherwise, RunNotFound, RunNotKnownHere, RunSuperseded
from everloop_training.ports import Learners, ModelIntake, RunLog

SAMPLES = 20
"""Feature vectors on which a model is tried."""
LOOK_AGAIN_S = 1.0
"""A waiting trainer looks for runs when one is requested, and when so many seconds have passed."""


@dataclass
class TrainerHandlers:
    """One method per request; those that end a run are idempotent by run and model.

    A lease says who works on a run, so that no two do; the first good model for an open run counts, whoever sends it.
    """

    loops: KnownLoops
    runs: RunLog
    learners: Learners
    intake: ModelIntake
    leases: Leases
    clock: Clock = system_clock
    _requested: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def on_run_requested(self) -> None:
        """A run was requested: trainers that wait look again."""
        self._requested.set()
        self._requested = asyncio.Event()

    async def lease(
        self, loop: str, trainer: str, wait_s: float, id: str | None = None
    ) -> tuple[RunRequested, Lease] | None:
        """The oldest run that a trainer may take, with its lease; None where none comes within `wait_s` seconds.

        The same `id` again is the same lease. Raises LoopNotFound.
        """
        id = id or uuid4().hex
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            self.loops.require(loop)
            requested, now = self._requested, self.clock()
            offered = open_for(trainer, self.runs.open_trainings(loop))
            for run in offered:
                if (given := self.leases.find(run.data.run)) and given.id == id and given.until > now:
                    return run, given
            for run in offered:
                if self.leases.is_free(run.data.run, now):
                    return run, self.leases.give(run.data.run, trainer, id, now)
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return None
            try:
                async with asyncio.timeout(min(left, LOOK_AGAIN_S)):
                    await requested.wait()
            except TimeoutError:
                continue

    async def renew(self, loop: str, run: str, lease: str) -> Lease:
        """A later end for a lease; raises RunNotFound, RunSuperseded, RunEndedOtherwise, LeaseEnded."""
        self._require_open(loop, run)
        return self._require_lease(run, self.leases.renew(run, lease, self.clock()))

    async def release(self, loop: str, run: str, lease: str) -> Lease:
        """Leave a run to the next trainer now; raises as `renew`."""
        self._require_open(loop, run)
        released = self._require_lease(run, self.leases.release(run, lease, self.clock()))
        self.on_run_requested()
        return released

    async def fail(self, loop: str, run: str, lease: str, reason: str) -> list[RunFinished]:
        """End a run without a model, for the trainer that has it; raises as `renew`, and Unavailable."""
        requested, finished = self._find(loop, run)
        reason = f"{requested.data.model.trainer}: {reason}"[:REASON_CHARACTERS]
        if finished is not None and finished.data.reason == reason:
            return [finished]
        await self.renew(loop, run, lease)
        return [self._known(await self.learners.fail_run(loop, run, reason), requested)]

    def require_run(self, loop: str, run: str) -> None:
        """Raise RunNotFound unless trainers were asked for this run, LoopNotFound for a loop that is none."""
        self._find(loop, run)

    async def take_model(self, loop: str, run: str, answer: TrainerAnswer) -> list[RunFinished]:
        """Let the run's line predict with a trainer's model; the same model again is answered alike.

        Raises RunNotFound, RunSuperseded, RunEndedOtherwise, ModelRefused, Unavailable, Overloaded.
        """
        async with self._turn:
            self._require_unanswered(*self._find(loop, run))
            checked = await self._check(loop, answer)
            requested, finished = self._find(loop, run)
            if finished is None:
                self._require_open(loop, run)
                stored = await self.intake.put(
                    loop, f"{requested.data.line}@{requested.data.requested_offset}", checked
                )
                finished = self._known(await self._hand_over(requested, stored, answer), requested)
            artifact = finished.data.artifact
            if artifact is None or artifact.sha256 != checked.sha256:
                self._require_unanswered(requested, finished)
                raise RunEndedOtherwise(f"run {run} was answered with another model; take the next run")
            return [finished]

    async def give_up(self) -> list[RunFinished]:
        """Fail the runs whose last leases have ended, and forget the leases of runs that have ended."""
        open_runs = {run.data.run: run for run in self.runs.open_trainings()}
        self.leases.retain(open_runs)
        ended = []
        for lease in self.leases.given_up(self.clock()):
            run, how = open_runs[lease.run], "trainers took the run one after the other, and none answered in time"
            if finished := await self.learners.fail_run(run.loop, lease.run, f"{MAX_LEASES} {how}"):
                ended.append(finished)
        return ended

    def _require_lease(self, run: str, lease: Lease | None) -> Lease:
        if lease is None:
            raise LeaseEnded(
                f"the lease of run {run} has ended, and another trainer may have the run; a model for it is taken all "
                "the same while the run is open. Renew earlier, or raise EVERLOOP_TRAINING_LEASE_S or _TRAINER_SECONDS"
            )
        return lease

    def _find(self, loop: str, run: str) -> tuple[RunRequested, RunFinished | None]:
        life = self.loops.require(loop).data.life
        for requested, finished in self.runs.of(loop):
            if requested.data.run == run and requested.revision >= life and is_for_trainers(requested):
                return requested, finished
        raise RunNotFound(f"no trainer was asked for run {run[:80]!r} of {loop}; /v1/loops/{loop}/runs lists its runs")

    def _require_open(self, loop: str, run: str) -> None:
        requested, finished = self._find(loop, run)
        self._require_unanswered(requested, finished)
        if finished is not None:
            raise RunEndedOtherwise(f"run {run} has ended with a model; take the next one")

    def _require_unanswered(self, requested: RunRequested, finished: RunFinished | None) -> None:
        """Raise where no model can end the run any more: it has failed, or a newer one has taken its place."""
        if finished is not None and finished.data.state == "trained":
            return
        data = requested.data
        if newer := newer_run(requested, [r for r, _ in self.runs.of(requested.loop)]):
            raise RunSuperseded(data.run, newer.data.run)
        if finished is not None:
            raise RunEndedOtherwise(f"run {data.run} has failed ({finished.data.reason}); take the next one")

    async def _hand_over(
        self, requested: RunRequested, stored: StoredModel, answer: TrainerAnswer
    ) -> RunFinished | None:
        data, lease = requested.data, self.leases.find(requested.data.run)
        model = TrainedModel(
            stored,
            data.data_set and data.data_set.model_copy(update={"digest": answer.digest, "rows": answer.rows}),
            answer.metrics,
            (self.clock() - lease.given).total_seconds() if lease else None,
            data.model.trainer,
        )
        return await self.learners.take_model(requested.loop, data.run, model)

    def _known(self, ended: RunFinished | None, requested: RunRequested) -> RunFinished:
        if ended is None:
            raise RunNotKnownHere(f"run {requested.data.run} is not known to this instance's worker yet; retry")
        return ended

    async def _check(self, loop: str, answer: TrainerAnswer) -> CheckedModel:
        spec, data = self.loops.require(loop).data.spec, await asyncio.to_thread(answer.file.read)
        plan = compile_features(spec)
        return await self.intake.check(data, answer.given, spec, plan, sample_vectors(spec, plan, SAMPLES))
