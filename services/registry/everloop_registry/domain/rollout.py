"""The rollout: how a line that won becomes champion step by step, and what takes it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from math import log
from typing import Literal

from everloop_learning.version import line_of
from everloop_registry.domain.approval import expiry_reason, is_complete, required_approval
from everloop_registry.domain.decision_log import DecisionLog
from everloop_registry.domain.gate import GateWin, HeldBack
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.recent_losses import MIN_COMPARED_OUTCOMES
from everloop_schemas.approvals import ApprovalRequested, ApprovalRequestedData
from everloop_schemas.registry import (
    BASELINE,
    ApprovalStep,
    GateDecided,
    GateDecidedData,
    ModelPromoted,
    ModelPromotedData,
    ModelRolledBack,
    ModelRolledBackData,
    RolloutChanged,
    RolloutChangedData,
    Stage,
)
from everloop_schemas.training import ModelTrainedData

MAX_REASON_CHARACTERS = 500
ROLLOUT_TIMEOUT_OUTCOMES = 1000
"""The outcomes after which a rollout that waits for training or for serving ends."""
CANARY_EVIDENCE_TIMEOUT_OUTCOMES = 10_000
"""The outcomes beyond a step's own for which a canary waits for labels of its predictions, which may be late."""
URGENT_SHARES, URGENT_STEP_OUTCOMES = (0.25, 0.5), 50
"""The canary after an alarm."""
SHARE_TOLERANCE = 1e-9
"""Shares that differ by less are the same: 10 % may be 0.1 or 0.1 plus a rounding error."""


@dataclass(frozen=True)
class RolloutPlan:
    """The number of outcomes in shadow, then shares of the traffic for `step` outcomes each."""

    shadow: int
    shares: tuple[float, ...]
    step: int

    def next_share(self, share: float) -> float | None:
        """The next share above `share`, None when the last is done."""
        return next((s for s in self.shares if s > share + SHARE_TOLERANCE), None)


def rollout_plan(loop: Loop) -> RolloutPlan:
    """The steps of this rollout: the spec's, or after an alarm no shadow and 50 + 50 outcomes, if that is shorter."""
    own = loop.spec.rollout
    if not loop.urgent:
        return RolloutPlan(own.shadow, own.canary, own.step)
    if len(own.canary) * own.step <= len(URGENT_SHARES) * URGENT_STEP_OUTCOMES:
        return RolloutPlan(0, own.canary, own.step)
    return RolloutPlan(0, URGENT_SHARES, URGENT_STEP_OUTCOMES)


def record_gate_win(decision_log: DecisionLog, win: GateWin) -> None:
    """Decide that a line passed the gate, which asks training for a fresh version of it."""
    _decide_on_line(decision_log, win, True, _describe_evidence(win))
    _decide_step(decision_log, "training", win.line, None, 0.0, "its line won the gate; a fresh version is being made")


def record_held_back(decision_log: DecisionLog, held: HeldBack) -> None:
    """Decide that a line does not pass the gate before it meets what the spec requires, however strong it is."""
    unmet = "; ".join(one.reason for one in held.unmet)
    reason = f"held back: {unmet}; it has {_describe_evidence(held.win)}"
    _decide_on_line(decision_log, held.win, False, reason[:MAX_REASON_CHARACTERS])


def _describe_evidence(win: GateWin) -> str:
    return f"evidence e^{win.log_e:.2f} >= e^{win.log_threshold:.2f} after {win.outcomes} outcomes"


def _decide_on_line(decision_log: DecisionLog, win: GateWin, passed: bool, reason: str) -> None:
    data = GateDecidedData(
        line=win.line,
        champion_line=line_of(decision_log.loop.champion.version),
        passed=passed,
        log_e=win.log_e,
        log_threshold=win.log_threshold,
        outcomes=win.outcomes,
        epoch=win.epoch,
        offset=win.offset,
        reason=reason,
        urgent=win.urgent,
    )
    decision_log.decide(GateDecided, win.line, data, decision_log.working.runs.get(win.line))


def refuse_version(decision_log: DecisionLog, model: ModelTrainedData, reason: str) -> None:
    """Decide that a version may not be served; a rollout that waited for it ends."""
    loop, gate = decision_log.loop, decision_log.working.gate
    data = GateDecidedData(
        line=model.line,
        champion_line=line_of(loop.champion.version),
        passed=False,
        log_e=0.0,
        log_threshold=0.0,
        outcomes=0,
        epoch=gate.epoch,
        offset=model.offset,
        reason=reason,
    )
    decision_log.decide(GateDecided, model.version, data, decision_log.working.runs.get(model.line, model.run))
    if loop.stage == "training" and loop.winner == model.line:
        _decide_step(decision_log, "idle", model.version, None, 0.0, f"its version was refused: {reason}")


def begin_rollout(decision_log: DecisionLog, model: ModelTrainedData) -> None:
    """Put the winner's version into shadow, or promote it where the baseline is champion and nobody must approve."""
    loop = decision_log.loop
    if loop.champion.version == BASELINE and loop.spec.rollout.approval == "none":
        reason = "first model that beat the baseline on evidence: nothing to protect"
        promote_version(decision_log, model.version, reason)
    else:
        reason = "serving loads it and predicts beside the champion"
        _decide_step(decision_log, "shadow", model.version, model.version, 0.0, reason)


def advance_rollout(decision_log: DecisionLog) -> None:
    """Take the next step of a rollout once its outcomes are there; end it when it has waited too long."""
    loop, working = decision_log.loop, decision_log.working
    if loop.approval is not None:
        return
    waited = working.outcomes - loop.staged_at
    if loop.stage == "training" and waited >= ROLLOUT_TIMEOUT_OUTCOMES and loop.winner is not None:
        reason = f"training made no version of it within {ROLLOUT_TIMEOUT_OUTCOMES} outcomes"
        _decide_step(decision_log, "idle", loop.winner, None, 0.0, reason)
    elif loop.stage == "shadow":
        _advance_shadow(decision_log, waited)
    elif loop.stage == "canary" and waited >= rollout_plan(loop).step:
        _advance_canary(decision_log, waited)


def apply_guardrail(decision_log: DecisionLog) -> None:
    """Roll the candidate back once its logged predictions are shown to be worse than the champion's."""
    loop, bet = decision_log.loop, decision_log.working.guard
    if loop.candidate is not None and bet.reaches(-log(1 - loop.spec.gate.confidence)):
        reason = f"worse than the champion in {bet.outcomes} logged predictions, evidence e^{bet.log_e:.2f}"
        roll_back_candidate(decision_log, reason)


def roll_back_candidate(decision_log: DecisionLog, reason: str) -> None:
    """Take the candidate out of the rollout, by the guardrail; the champion stays."""
    loop = decision_log.loop
    if loop.candidate is not None:
        _decide_rollback(decision_log, loop.candidate.version, loop.champion.version, reason)


def reject_candidate(decision_log: DecisionLog, reason: str) -> None:
    """Take the candidate out of the rollout because a person does not want it; nothing is pinned."""
    loop = decision_log.loop
    if loop.candidate is not None:
        _decide_rollback(decision_log, loop.candidate.version, loop.champion.version, reason, "person")


def roll_back_unusable(decision_log: DecisionLog, version: str, reason: str) -> None:
    """Roll back a version that serving cannot use: a candidate, or a champion in favour of what served before it."""
    loop = decision_log.loop
    if loop.pinned:
        return
    if loop.candidate is not None and loop.candidate.version == version:
        roll_back_candidate(decision_log, reason)
    elif loop.champion.version == version and loop.fallback is not None:
        _decide_rollback(decision_log, version, loop.fallback.version, reason)


def advance_approved(decision_log: DecisionLog) -> None:
    """Take the step that a candidate waits for, once enough people have approved."""
    pending = decision_log.loop.approval
    if pending is not None and is_complete(pending):
        _take_step(decision_log, rollout_plan(decision_log.loop).next_share(decision_log.loop.share))


def end_expired_approval(decision_log: DecisionLog) -> None:
    """Roll a candidate back whose approvals have not come in time, by the clock of the decision at hand."""
    pending = decision_log.loop.approval
    if pending is not None and (reason := expiry_reason(pending, decision_log.context.now)):
        roll_back_candidate(decision_log, reason)


def promote_version(decision_log: DecisionLog, version: str, reason: str) -> None:
    """Decide that a version is champion."""
    loop = decision_log.loop
    data = ModelPromotedData(
        version=version, previous=loop.champion.version, reason=reason, outcomes=decision_log.working.outcomes
    )
    run = loop.run or decision_log.working.runs.get(line_of(version))
    decision_log.decide(ModelPromoted, version, data, run)


def _advance_shadow(decision_log: DecisionLog, waited: int) -> None:
    loop, working = decision_log.loop, decision_log.working
    if working.ready_at is None and working.all_instances_ready():
        working.ready_at = working.outcomes
    if working.ready_at is None:
        if waited >= ROLLOUT_TIMEOUT_OUTCOMES:
            reason = f"not every live serving instance had it ready within {ROLLOUT_TIMEOUT_OUTCOMES} outcomes"
            roll_back_candidate(decision_log, reason)
    elif working.outcomes - working.ready_at >= rollout_plan(loop).shadow:
        _take_next_share(decision_log)


def _advance_canary(decision_log: DecisionLog, waited: int) -> None:
    """End a step once outcomes of the candidate's own predictions are there: only they show whether it does harm."""
    step, compared = rollout_plan(decision_log.loop).step, decision_log.working.compared_outcomes
    if compared >= min(MIN_COMPARED_OUTCOMES, step):
        _take_next_share(decision_log)
    elif waited >= step + CANARY_EVIDENCE_TIMEOUT_OUTCOMES:
        reason = f"only {compared} of its predictions had outcomes within {waited} outcomes of a step"
        roll_back_candidate(decision_log, reason)


def _take_next_share(decision_log: DecisionLog) -> None:
    """Take the next step, or ask people for their approval where the spec wants it before this one."""
    loop = decision_log.loop
    share = rollout_plan(loop).next_share(loop.share)
    if step := required_approval(loop.spec.rollout, loop.stage, share):
        _request_approval(decision_log, step)
    else:
        _take_step(decision_log, share)


def _take_step(decision_log: DecisionLog, share: float | None) -> None:
    """Give the candidate this share of the traffic; without one it is champion."""
    candidate, approval = decision_log.loop.candidate, decision_log.loop.approval
    assert candidate is not None, "shadow and canary have a candidate"
    approved = f", approved by {', '.join(approval.approved_by)}" if approval else ""
    if share is None:
        promote_version(decision_log, candidate.version, f"held through every step of its rollout{approved}")
    else:
        reason = f"{share:.0%} of the traffic{approved}"
        _decide_step(decision_log, "canary", candidate.version, candidate.version, share, reason)


def _request_approval(decision_log: DecisionLog, step: ApprovalStep) -> None:
    loop, rules, now = decision_log.loop, decision_log.loop.spec.rollout, decision_log.context.now
    assert loop.candidate is not None, "shadow and canary have a candidate"
    version, people = loop.candidate.version, "person" if rules.approvals == 1 else "different people"
    data = ApprovalRequestedData(
        version=version,
        step=step,
        approvals=rules.approvals,
        expires=now + timedelta(seconds=rules.approval_within_s),
        reason=f"{rules.approvals} {people} must approve {step.replace('_', ' ')}, within {rules.approval_within}",
        outcomes=decision_log.working.outcomes,
    )
    decision_log.decide(ApprovalRequested, version, data, loop.run)


def _decide_step(
    decision_log: DecisionLog, stage: Stage, subject: str, candidate: str | None, share: float, reason: str
) -> None:
    run = decision_log.loop.run
    data = RolloutChangedData(
        stage=stage, candidate=candidate, share=share, outcomes=decision_log.working.outcomes, reason=reason
    )
    decision_log.decide(RolloutChanged, subject, data, run)


def _decide_rollback(
    decision_log: DecisionLog,
    rolled_back: str,
    version: str,
    reason: str,
    by: Literal["person", "guardrail"] = "guardrail",
) -> None:
    working = decision_log.working
    data = ModelRolledBackData(
        version=version,
        rolled_back=rolled_back,
        by=by,
        reason=reason,
        pinned=False,
        outcomes=working.outcomes,
    )
    run = working.runs.get(line_of(rolled_back)) or decision_log.loop.run
    decision_log.decide(ModelRolledBack, rolled_back, data, run)
