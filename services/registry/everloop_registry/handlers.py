"""What the registry does about each event and command: open the ledger, decide, save, tell."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_registry.domain import rollout
from everloop_registry.domain.betting import Bet
from everloop_registry.domain.evidence import evaluated, learned
from everloop_registry.domain.ledger import Cause, Ledger
from everloop_registry.errors import Conflict, LoopNotFound, LoopUnknown, SpecRejected, VersionNotFound
from everloop_registry.ports import ArtifactChecks, Book, SpecChecks
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import DriftDetected, EvaluationUpdated
from everloop_schemas.registry import (
    BASELINE,
    LoopApplied,
    LoopAppliedData,
    LoopResumed,
    LoopResumedData,
    ModelRolledBack,
    ModelRolledBackData,
    VersionRegistered,
    VersionRegisteredData,
    line_of,
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


@dataclass
class Handlers:
    """One method per event and command; each is idempotent and returns the decisions to tell, then the state."""

    book: Book
    specs: SpecChecks
    artifacts: ArtifactChecks
    clock: Clock

    async def on_model_trained(self, event: ModelTrained, at: Position) -> list[Event]:
        """Check a new version's contract, register it, and serve it if it was waited for or is fresher."""
        ledger, model = await self._open(event), event.data
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
        return await self._close(ledger)

    async def on_challenge_updated(self, event: ChallengeUpdated, at: Position) -> list[Event]:
        """Feed the gate with the lines' losses; a line that passes is asked for a fresh version."""
        ledger = await self._open(event)
        for line in event.data.lines:
            _run(ledger, line.line, line.run)
        verdict = learned(ledger, event.data)
        if verdict is not None and ledger.known.stage == "idle":
            rollout.won(ledger, verdict)
        return await self._close(ledger)

    async def on_run_requested(self, event: RunRequested, at: Position) -> list[Event]:
        """Remember which run a line belongs to."""
        ledger = await self._open(event)
        _run(ledger, event.data.line, event.data.run)
        return await self._close(ledger)

    async def on_drift_detected(self, event: DriftDetected, at: Position) -> list[Event]:
        """Start all tests anew, on outcomes nobody has seen; a running rollout goes on."""
        ledger = await self._open(event)
        if ledger.work.gate.on_alarm(event.data.offset):
            ledger.work.guard = Bet()
        return await self._close(ledger)

    async def on_evaluation_updated(self, event: EvaluationUpdated, at: Position) -> list[Event]:
        """Count outcomes for the rollout, and watch the candidate's logged predictions."""
        ledger = await self._open(event)
        if evaluated(ledger, event.data) and not ledger.known.pinned:
            rollout.guard(ledger)
            rollout.advance(ledger)
        return await self._close(ledger)

    async def on_version_state(self, event: VersionState, at: Position) -> list[Event]:
        """Hear from an instance: ready lets the canary start, failed and fell back roll back."""
        ledger, said = await self._open(event), event.data
        loop, work = ledger.known, ledger.work
        work.heard(said.instance)
        if said.state != "ready":
            reason = f"{said.state} on {said.instance}: {said.reason or 'no reason given'}"
            rollout.broke(ledger, said.version, reason[:REASON])
        elif loop.candidate is not None and line_of(said.version) == line_of(loop.candidate.version):
            work.ready = sorted({*work.ready, said.instance})
            rollout.advance(ledger)
        return await self._close(ledger)

    async def apply(self, spec: LoopSpec) -> list[Event]:
        """Take a spec in: a new loop, a new revision, or nothing when it says the same. Raises SpecRejected."""
        wire = spec.model_dump_json(exclude_none=True, by_alias=True)
        if len(wire) > SPEC_BYTES:
            wrong = FieldError("body", f"has {len(wire):,} bytes as JSON; at most {SPEC_BYTES:,} travel")
            raise SpecRejected(f"{wrong.field}: {wrong.error}", [wrong])
        spec = LoopSpec.model_validate_json(wire)
        ledger = await self._command(spec.loop)
        if ledger.loop is not None:
            if ledger.loop.spec == spec:
                return []
            _same_kind(ledger.loop.spec, spec)
        if errors := await self.specs.check(spec):
            raise SpecRejected("; ".join(f"{e.field}: {e.error}" for e in errors), errors)
        ledger.decide(LoopApplied, spec.loop, LoopAppliedData(spec=spec))
        return await self._close(ledger)

    async def rollback(self, loop: str, reason: str, to: str | None = None) -> list[Event]:
        """A person takes the champion back, by default to the one before the last promotion, and pins it."""
        ledger = await self._command(loop)
        if ledger.loop is None:
            raise LoopNotFound(f"no loop {loop!r}; apply it first")
        target = _target(ledger, to)
        if target is None:
            return []
        if target != BASELINE and (model := await self.book.model(loop, target)) is not None:
            ledger.models[target] = model
        elif target != BASELINE:
            raise VersionNotFound(f"no version {target!r} of {loop}; /v1/loops/{loop}/versions lists them")
        champion = ledger.loop.champion.version
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
        ledger = await self._command(loop)
        if ledger.loop is None:
            raise LoopNotFound(f"no loop {loop!r}; apply it first")
        if ledger.loop.pinned:
            ledger.decide(LoopResumed, loop, LoopResumedData(reason=reason))
        return await self._close(ledger)

    async def _open(self, event: Event) -> Ledger:
        ledger = await self.book.open(event.loop, Cause.of(event, self.clock()))
        if ledger.loop is None:
            raise LoopUnknown(f"nobody has applied a loop {event.loop!r}")
        return ledger

    async def _command(self, loop: str) -> Ledger:
        return await self.book.open(loop, Cause(None, current_traceparent(), self.clock()))

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
        rollout.refresh(ledger, model)


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
