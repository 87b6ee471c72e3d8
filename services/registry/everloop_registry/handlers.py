"""What the registry does about each event and command: open the ledger, decide, save, tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from everloop_learning.errors import LoopNotFound, LoopNotKnownYet
from everloop_learning.version import line_of
from everloop_registry.domain import rollout
from everloop_registry.domain.betting import Bet
from everloop_registry.domain.evidence import evaluated, learned, settled
from everloop_registry.domain.gate import Verdict
from everloop_registry.domain.ledger import Cause, Ledger
from everloop_registry.domain.loop import KEPT
from everloop_registry.errors import (
    ChangesTooOften,
    Collected,
    Conflict,
    LoopsFull,
    SpecRejected,
    VersionNotFound,
)
from everloop_registry.ports import ArtifactChecks, Book, SpecChecks
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import DriftDetected, EvaluationUpdated
from everloop_schemas.registry import (
    BASELINE,
    Decided,
    LoopApplied,
    LoopAppliedData,
    LoopDeleted,
    LoopDeletedData,
    LoopResumed,
    LoopResumedData,
    ModelRolledBack,
    ModelRolledBackData,
    VersionRegistered,
    VersionRegisteredData,
)
from everloop_schemas.serving import VersionState
from everloop_schemas.training import ChallengeUpdated, ModelTrained, ModelTrainedData, RunRequested
from everloop_shared.clock import Clock
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import Position
from everloop_shared.tracing import current_traceparent

RUNS = 100
"""So many lines' runs are remembered, latest last."""
SPEC_BYTES = 500_000
"""A spec travels in one event, with its state in another."""
REASON = 500
HOUR = timedelta(hours=1)
NAMES_PER_LOOP = 10
"""Deleted loops leave their name and last state: so many times the limit of loops may have been there, ever."""


@dataclass(frozen=True)
class Quota:
    """How many loops there may be, and how many decisions of one kind a person may take about one within an hour."""

    loops: int = 1_000
    changes_per_hour: int = 100


@dataclass
class Handlers:
    """One method per event and command; each is idempotent and returns the decisions to tell, then the state."""

    book: Book
    specs: SpecChecks
    artifacts: ArtifactChecks
    clock: Clock
    quota: Quota = field(default_factory=Quota)

    async def on_model_trained(self, event: ModelTrained, at: Position) -> list[Event]:
        """Check a new version's contract, register it, and serve it if it was waited for or is fresher."""
        model = event.data
        if (ledger := await self._open(event)) is None:
            return []
        _run(ledger, model.line, model.run)
        known = await self.book.model(event.loop, model.version)
        if known is None and await self.book.judged(event.loop, model.version):
            return []
        if known is None:
            reason = await self.artifacts.refusal(model, await self.book.specs(event.loop))
            if reason is not None:
                rollout.refuse(ledger, model, f"contract: {reason}"[:REASON])
                return await self._close(ledger)
            data = VersionRegisteredData(model=model)
            ledger.decide(VersionRegistered, model.version, data, ledger.work.runs[model.line])
        ledger.models[model.version] = model
        _serve(ledger, model)
        await self._refresh(ledger)
        return await self._close(ledger)

    async def on_challenge_updated(self, event: ChallengeUpdated, at: Position) -> list[Event]:
        """Feed the gate with the lines' losses; a line that passes is asked for a fresh version."""
        if (ledger := await self._open(event)) is None:
            return []
        for line in event.data.lines:
            _run(ledger, line.line, line.run)
        verdict = learned(ledger, event.data)
        _won(ledger, verdict)
        await self._refresh(ledger)
        return await self._close(ledger)

    async def on_run_requested(self, event: RunRequested, at: Position) -> list[Event]:
        """Remember which run a line belongs to."""
        if (ledger := await self._open(event)) is None:
            return []
        _run(ledger, event.data.line, event.data.run)
        return await self._close(ledger)

    async def on_drift_detected(self, event: DriftDetected, at: Position) -> list[Event]:
        """On a drift of the served error, start all tests anew, on outcomes nobody has seen; a rollout goes on."""
        if not event.data.is_served_error_drift:
            return []
        if (ledger := await self._open(event)) is None:
            return []
        if ledger.work.gate.on_alarm(event.data.offset):
            ledger.work.guard = Bet()
        return await self._close(ledger)

    async def on_evaluation_updated(self, event: EvaluationUpdated, at: Position) -> list[Event]:
        """Count outcomes for the rollout, and watch the candidate's logged predictions."""
        if (ledger := await self._open(event)) is None:
            return []
        if evaluated(ledger, event.data) and not ledger.known.pinned:
            _won(ledger, settled(ledger))
            rollout.guard(ledger)
            rollout.advance(ledger)
            await self._refresh(ledger)
        return await self._close(ledger)

    async def on_version_state(self, event: VersionState, at: Position) -> list[Event]:
        """Hear from an instance: ready lets the canary start, failed and fell back roll back."""
        said = event.data
        if (ledger := await self._open(event)) is None:
            return []
        loop, work = ledger.known, ledger.work
        work.heard(said.instance)
        work.serves(said.instance, said.version, said.serving if said.state == "failed" else None, said.reason or "")
        if said.state != "ready":
            reason = f"{said.state} on {said.instance}: {said.reason or 'no reason given'}"
            rollout.broke(ledger, said.version, reason[:REASON])
        elif loop.candidate is not None and line_of(said.version) == line_of(loop.candidate.version):
            work.ready = sorted({*work.ready, said.instance})
            rollout.advance(ledger)
        return await self._close(ledger)

    async def check(self, spec: LoopSpec) -> None:
        """Try a spec out, outside any unit of work, as it takes a while; raises SpecRejected."""
        if errors := await self.specs.check(spec):
            raise SpecRejected("; ".join(f"{e.field}: {e.error}" for e in errors[:5]), errors)

    async def apply(self, spec: LoopSpec) -> list[Event]:
        """Take a checked spec in: a new loop, a new revision, or nothing when it says the same. Raises SpecRejected."""
        wire = spec.model_dump_json(exclude_none=True, by_alias=True)
        if len(wire) > SPEC_BYTES:
            wrong = FieldError("body", f"has {len(wire):,} bytes as JSON; at most {SPEC_BYTES:,} travel")
            raise SpecRejected(f"{wrong.field}: {wrong.error}", [wrong])
        spec = LoopSpec.model_validate_json(wire)
        ledger = await self._command(spec.loop)
        lives = ledger.loop is not None and not ledger.loop.deleted
        if lives:
            if ledger.known.spec == spec:
                return []
            _same_kind(ledger.known.spec, spec)
        await self._admit(spec.loop, LoopApplied, new=not lives)
        ledger.decide(LoopApplied, spec.loop, LoopAppliedData(spec=spec))
        return await self._close(ledger)

    async def rollback(self, loop: str, reason: str, to: str | None = None) -> list[Event]:
        """A person takes the champion back, by default to the one before the last promotion, and pins it."""
        ledger = await self._existing(loop)
        target = _target(ledger, to)
        if target is None:
            return []
        await self._admit(loop, ModelRolledBack)
        if target != BASELINE and (model := await self.book.model(loop, target)) is not None:
            ledger.models[target] = model
        elif target != BASELINE:
            raise VersionNotFound(f"no version {target!r} of {loop}; /v1/loops/{loop}/versions lists them")
        if target != BASELINE and target not in ledger.known.kept:
            raise Collected(
                f"the artifact of {target} was collected: the latest {KEPT} versions are kept, and the last champions. "
                f"Choose one that /v1/loops/{loop}/versions says is kept, or have a fresh one made: everloop retrain"
            )
        champion = ledger.known.champion.version
        data = ModelRolledBackData(
            version=target,
            rolled_back=champion,
            by="person",
            reason=reason,
            pinned=True,
            outcomes=ledger.work.outcomes,
        )
        ledger.decide(ModelRolledBack, champion, data, ledger.work.runs.get(line_of(champion)))
        return await self._close(ledger)

    async def resume(self, loop: str, reason: str) -> list[Event]:
        """Lift the pin of a rollback; nothing where there is none."""
        ledger = await self._existing(loop)
        if ledger.known.pinned:
            await self._admit(loop, LoopResumed)
            ledger.decide(LoopResumed, loop, LoopResumedData(reason=reason))
        return await self._close(ledger)

    async def delete(self, loop: str, reason: str) -> list[Event]:
        """Take a loop out for good; its log stays. Nothing where that is done already."""
        ledger = await self._command(loop)
        if ledger.loop is None:
            raise LoopNotFound(loop)
        if ledger.loop.deleted:
            return []
        ledger.decide(LoopDeleted, loop, LoopDeletedData(reason=reason))
        return await self._close(ledger)

    async def _refresh(self, ledger: Ledger) -> None:
        """Decide on the refreshes whose evidence is there."""
        for waiting in rollout.due(ledger):
            model = ledger.models.get(waiting.version) or await self.book.model(ledger.name, waiting.version)
            if model is not None:
                ledger.models[model.version] = model
                rollout.refresh(ledger, model)

    async def _open(self, event: Event) -> Ledger | None:
        """The ledger of an event's loop; None for one that is deleted, or of a life before: it is let go."""
        ledger = await self.book.open(event.loop, Cause.of(event, self.clock()))
        if ledger.loop is None:
            raise LoopNotKnownYet(event.loop)
        past = ledger.loop.deleted or 0 < event.revision < ledger.loop.life
        return None if past else ledger

    async def _existing(self, loop: str) -> Ledger:
        ledger = await self._command(loop)
        if ledger.loop is None or ledger.loop.deleted:
            raise LoopNotFound(loop, deleted=ledger.loop is not None)
        return ledger

    async def _command(self, loop: str) -> Ledger:
        return await self.book.open(loop, Cause(None, current_traceparent(), self.clock()))

    async def _admit(self, loop: str, kind: type[Decided], new: bool = False) -> None:
        """Raises ChangesTooOften, or for a new loop LoopsFull, where one more decision is over its quota."""
        quota, now = self.quota, self.clock()
        if await self.book.decided_since(loop, kind, now - HOUR) >= quota.changes_per_hour:
            raise ChangesTooOften(
                f"{quota.changes_per_hour} decisions of this kind about {loop} within an hour are the limit "
                "(EVERLOOP_REGISTRY_MAX_CHANGES_PER_HOUR); try again later"
            )
        if new:
            living, ever = await self.book.loops()
            if living >= quota.loops:
                raise LoopsFull(
                    f"there are {living:,} loops, the limit (EVERLOOP_REGISTRY_MAX_LOOPS); delete one that nobody "
                    "needs (everloop delete LOOP), or raise the limit"
                )
            if ever >= quota.loops * NAMES_PER_LOOP and not await self.book.named(loop):
                raise LoopsFull(
                    f"{ever:,} names were in use, {NAMES_PER_LOOP} times EVERLOOP_REGISTRY_MAX_LOOPS; apply under the "
                    "name of a deleted loop, or raise the limit"
                )

    async def _close(self, ledger: Ledger) -> list[Event]:
        await self.book.save(ledger)
        return ledger.events()


def _serve(ledger: Ledger, model: ModelTrainedData) -> None:
    loop = ledger.known
    if loop.pinned:
        return
    if loop.stage == "training" and loop.winner == model.line and model.offset >= loop.gate_offset:
        rollout.begin(ledger, model)
    else:
        rollout.offer(ledger, model)


def _won(ledger: Ledger, verdict: Verdict | None) -> None:
    if verdict is not None and ledger.known.stage == "idle":
        rollout.won(ledger, verdict)


def _run(ledger: Ledger, line: str, run: str) -> None:
    runs = ledger.work.runs
    runs[line] = run
    while len(runs) > RUNS:
        del runs[next(iter(runs))]


def _target(ledger: Ledger, to: str | None) -> str | None:
    """The version to go back to; None where it is pinned there already. Raises Conflict where there is none."""
    loop = ledger.known
    champion = loop.champion.version
    if to is None and loop.pinned:
        raise Conflict(f"pinned to {champion} by a rollback already; name the version in `to`, or resume first")
    if to is None and champion == BASELINE:
        raise Conflict("version 0 is champion: there is nothing before it")
    target = to or (loop.before.version if loop.before else BASELINE)
    if target != champion:
        return target
    if loop.pinned:
        return None
    raise Conflict(f"{champion} is champion already")


def _same_kind(old: LoopSpec, new: LoopSpec) -> None:
    wrong = [
        FieldError(field, f"cannot change from {a} to {b} in a loop that lives; apply it under another name")
        for field, a, b in (
            ("task", old.task, new.task),
            ("label.type", old.label_type, new.label_type),
        )
        if a != b
    ]
    if wrong:
        raise SpecRejected("; ".join(f"{e.field}: {e.error}" for e in wrong), wrong)
