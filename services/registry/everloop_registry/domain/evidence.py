"""Losses as evidence: what the lines did for the gate, what serving predicted for the guardrail."""

from __future__ import annotations

from collections.abc import Mapping

from everloop_learning.version import line_of
from everloop_registry.domain.decision_log import DecisionLog
from everloop_registry.domain.gate import GateWin
from everloop_registry.domain.recent_losses import RecentLosses, keep_loss
from everloop_schemas.monitoring import EvaluationUpdatedData
from everloop_schemas.training import ChallengeUpdatedData


def record_line_losses(decision_log: DecisionLog, update: ChallengeUpdatedData) -> GateWin | None:
    """Take in the lines' losses; the line that passed the gate, if one did. A pinned loop has no gate."""
    loop, working = decision_log.loop, decision_log.working
    gate = working.gate
    working.learned_outcomes += sum(offset > gate.last_offset for offset in update.offsets)
    for line in live_lines(decision_log):
        recent = working.recent.setdefault(line, RecentLosses())
        for offset, loss in zip(update.offsets, update.losses.get(line, ()), strict=False):
            if loss is not None and offset > gate.last_offset:
                recent.add_line_loss(offset, loss)
    if loop.pinned:
        gate.last_offset = max([gate.last_offset, *update.offsets[-1:]])
        return None
    champion = line_of(loop.champion.version)
    return gate.observe(champion, update, loop.spec.gate, _served_losses(decision_log, champion))


def compare_with_served(decision_log: DecisionLog) -> GateWin | None:
    """The line that passes once outcomes without the champion's line are compared with what was served, if one does."""
    loop = decision_log.loop
    if loop.pinned:
        return None
    served = _served_losses(decision_log, line_of(loop.champion.version))
    return decision_log.working.gate.compare_pending(loop.spec.gate, served)


def record_evaluation(decision_log: DecisionLog, update: EvaluationUpdatedData) -> bool:
    """Take in the losses of served versions and shadows; False where all of it was seen before."""
    working, live = decision_log.working, live_lines(decision_log)
    if update.outcomes <= working.outcomes:
        return False
    working.outcomes = update.outcomes
    working.recent = {line: recent for line, recent in working.recent.items() if line in live}
    for i, offset in enumerate(update.offsets):
        if offset > working.evaluated_offset:
            losses = {line_of(v): loss for v, of in update.losses.items() if (loss := of[i]) is not None}
            version = update.served[i]  # which events of earlier releases name in place of its line
            served = update.losses.get(version, update.losses.get(line_of(version), ()))[i : i + 1]
            if served and served[0] is not None:
                keep_loss(working.served, offset, served[0])
            _record_served_losses(decision_log, offset, losses)
    working.evaluated_offset = max([working.evaluated_offset, *update.offsets[-1:]])
    return True


def _record_served_losses(decision_log: DecisionLog, offset: int, losses: dict[str, float]) -> None:
    loop, working = decision_log.loop, decision_log.working
    for line in live_lines(decision_log):
        if line in losses:
            working.recent.setdefault(line, RecentLosses()).add_served_loss(offset, losses[line])
    if loop.candidate is None:
        return
    champion = losses.get(line_of(loop.champion.version))
    candidate = losses.get(line_of(loop.candidate.version))
    if champion is not None and candidate is not None:
        working.guard.add(candidate - champion)
        working.compared_outcomes += 1


def _served_losses(decision_log: DecisionLog, line: str) -> Mapping[int, float]:
    recent = decision_log.working.recent.get(line)
    return recent.served if recent else {}


def live_lines(decision_log: DecisionLog) -> set[str]:
    """The lines of champion and candidate."""
    loop = decision_log.loop
    return {line_of(live.version) for live in (loop.champion, loop.candidate) if live is not None}
