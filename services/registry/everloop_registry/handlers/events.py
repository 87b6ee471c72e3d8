"""What the registry decides about the events of the other services."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_learning.errors import LoopNotKnownYet
from everloop_learning.version import line_of
from everloop_registry.domain import refresh, rollout
from everloop_registry.domain.betting import BettingTest
from everloop_registry.domain.decision_log import DecisionLog
from everloop_registry.domain.evidence import compare_with_served, record_evaluation, record_line_losses
from everloop_registry.domain.gate import GateWin
from everloop_registry.handlers.command_context import event_context
from everloop_registry.handlers.run_log import RunLog
from everloop_registry.ports import ArtifactChecks, DecisionStore
from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import DriftDetected, EvaluationUpdated
from everloop_schemas.registry import VersionRegistered, VersionRegisteredData
from everloop_schemas.serving import VersionState
from everloop_schemas.training import ChallengeUpdated, ModelTrained, ModelTrainedData, RunFinished, RunRequested
from everloop_shared.clock import Clock
from everloop_shared.messaging.routes import Position


@dataclass
class EventHandlers:
    """One method per event; each is idempotent and returns the decisions to publish, then the loop's state."""

    store: DecisionStore
    artifacts: ArtifactChecks
    clock: Clock
    runs: RunLog

    async def on_model_trained(self, event: ModelTrained, at: Position) -> list[Event]:
        """Check a new version's contract, register it, and serve it if a rollout waits for it or it is fresher."""
        model = event.data
        if (decision_log := await self._open(event)) is None:
            return []
        decision_log.working.record_run(model.line, model.run)
        known, logged = await self.store.model(event.loop, model.version), list[Event]()
        if known is None and await self.store.is_judged(event.loop, model.version):
            return []
        if known is None:
            refusal = await self.artifacts.refusal(model, await self.store.specs(event.loop))
            if refusal is not None:
                rollout.refuse_version(decision_log, model, f"contract: {refusal}"[: rollout.MAX_REASON_CHARACTERS])
                return await self._close(decision_log)
            data = VersionRegisteredData(model=model)
            decision_log.decide(VersionRegistered, model.version, data, decision_log.working.runs[model.line])
            logged = await self.runs.on_registered(decision_log, event, model)
        decision_log.models[model.version] = model
        _offer_version(decision_log, model)
        await self._decide_due_refreshes(decision_log)
        return [*await self._close(decision_log), *logged]

    async def on_challenge_updated(self, event: ChallengeUpdated, at: Position) -> list[Event]:
        """Feed the gate with the lines' losses; training is asked for a fresh version of a line that passes."""
        if (decision_log := await self._open(event)) is None:
            return []
        for line in event.data.lines:
            decision_log.working.record_run(line.line, line.run)
        _decide_on_win(decision_log, record_line_losses(decision_log, event.data))
        await self._decide_due_refreshes(decision_log)
        logged = await self.runs.on_challenge_updated(decision_log, event)
        return [*await self._close(decision_log), *logged]

    async def on_run_requested(self, event: RunRequested, at: Position) -> list[Event]:
        """Log that a run begins, and remember which line it belongs to.

        A training is its line's run once the line predicts with its model.
        """
        if (decision_log := await self._open(event)) is None:
            return []
        if event.data.data_set is None:
            decision_log.working.record_run(event.data.line, event.data.run)
        logged = await self.runs.on_run_requested(decision_log, event)
        return [*await self._close(decision_log), *logged]

    async def on_run_finished(self, event: RunFinished, at: Position) -> list[Event]:
        """Log how a run ended."""
        decision_log = await self._open(event)
        return [] if decision_log is None else await self.runs.on_run_finished(decision_log, event)

    async def on_drift_detected(self, event: DriftDetected, at: Position) -> list[Event]:
        """On a drift of the served error, start the next test epoch, on unseen outcomes; a running rollout goes on."""
        if not event.data.is_served_error_drift:
            return []
        if (decision_log := await self._open(event)) is None:
            return []
        if decision_log.working.gate.restart_for_alarm(event.data.offset):
            decision_log.working.guard = BettingTest()
        return await self._close(decision_log)

    async def on_evaluation_updated(self, event: EvaluationUpdated, at: Position) -> list[Event]:
        """Count outcomes for the rollout, and watch the candidate's logged predictions."""
        if (decision_log := await self._open(event)) is None:
            return []
        if record_evaluation(decision_log, event.data) and not decision_log.loop.pinned:
            _decide_on_win(decision_log, compare_with_served(decision_log))
            rollout.apply_guardrail(decision_log)
            rollout.advance_rollout(decision_log)
            await self._decide_due_refreshes(decision_log)
        return await self._close(decision_log)

    async def on_version_state(self, event: VersionState, at: Position) -> list[Event]:
        """Take in an instance's report: `ready` lets the canary start, `failed` and `fell_back` roll back."""
        report = event.data
        if (decision_log := await self._open(event)) is None:
            return []
        loop, working = decision_log.loop, decision_log.working
        working.record_instance(report.instance)
        substitute = report.serving if report.state == "failed" else None
        working.record_substitute(report.instance, report.version, substitute, report.reason or "")
        if report.state != "ready":
            reason = f"{report.state} on {report.instance}: {report.reason or 'no reason given'}"
            rollout.roll_back_unusable(decision_log, report.version, reason[: rollout.MAX_REASON_CHARACTERS])
        elif loop.candidate is not None and line_of(report.version) == line_of(loop.candidate.version):
            working.ready_instances = sorted({*working.ready_instances, report.instance})
            rollout.advance_rollout(decision_log)
        return await self._close(decision_log)

    async def _decide_due_refreshes(self, decision_log: DecisionLog) -> None:
        for due in refresh.take_due_refreshes(decision_log):
            known = decision_log.models.get(due.version)
            model = known or await self.store.model(decision_log.name, due.version)
            if model is not None:
                decision_log.models[model.version] = model
                refresh.decide_refresh(decision_log, model)

    async def _open(self, event: Event) -> DecisionLog | None:
        """The decision log of an event's loop; None where the loop or the lifetime of the event was deleted."""
        decision_log = await self.store.open(event.loop, event_context(self.clock, event))
        loop = decision_log.state
        if loop is None:
            raise LoopNotKnownYet(event.loop)
        return None if loop.is_past(event.revision) else decision_log

    async def _close(self, decision_log: DecisionLog) -> list[Event]:
        await self.store.save(decision_log)
        return decision_log.events_to_publish()


def _offer_version(decision_log: DecisionLog, model: ModelTrainedData) -> None:
    """Begin the rollout that waits for this version, or queue it as a refresh of a live line.

    A model that was trained for a line, or submitted, challenges first: its line predicts, and is compared.
    """
    loop = decision_log.loop
    if loop.pinned or model.reason in ("trained", "submitted"):
        return
    if loop.stage == "training" and loop.winner == model.line and model.offset >= loop.gate_offset:
        rollout.begin_rollout(decision_log, model)
    else:
        refresh.queue_refresh(decision_log, model)


def _decide_on_win(decision_log: DecisionLog, win: GateWin | None) -> None:
    """Begin a rollout for the line that won, and say which lines a requirement holds back."""
    loop = decision_log.loop
    if loop.stage != "idle" or loop.pinned:
        return
    for held in decision_log.working.gate.take_held_back(loop.spec.gate):
        rollout.record_held_back(decision_log, held)
    if win is not None:
        rollout.record_gate_win(decision_log, win)
