"""Losses as evidence: what the lines did for the gate, what serving predicted for the guardrail."""

from __future__ import annotations

from collections.abc import Mapping
from operator import sub
from typing import TypeVar

from everloop_learning.rank_blocks import RANKS
from everloop_learning.version import line_of
from everloop_registry.domain.decision_log import DecisionLog
from everloop_registry.domain.gate import GateWin
from everloop_registry.domain.recent_losses import RecentLosses, keep_loss
from everloop_schemas.monitoring import EvaluationUpdatedData
from everloop_schemas.training import ChallengeUpdatedData, RankedBlock

T = TypeVar("T")


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
    served = _served(decision_log, champion)
    return gate.observe(champion, update, loop.spec.gate, served.served, served.blocks, by_rank=_by_rank(decision_log))


def compare_with_served(decision_log: DecisionLog) -> GateWin | None:
    """The line that passes once outcomes without the champion's line are compared with what was served, if one does."""
    loop = decision_log.loop
    if loop.pinned:
        return None
    served = _served(decision_log, line_of(loop.champion.version))
    return decision_log.working.gate.compare_pending(loop.spec.gate, served.served, served.blocks)


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
    for block in update.blocks:
        if block.end > working.evaluated_offset:
            _record_served_block(decision_log, block)
    working.evaluated_offset = max([working.evaluated_offset, *update.offsets[-1:]])
    return True


def _record_served_losses(decision_log: DecisionLog, offset: int, losses: dict[str, float]) -> None:
    working = decision_log.working
    for line in live_lines(decision_log):
        if line in losses:
            working.recent.setdefault(line, RecentLosses()).add_served_loss(offset, losses[line])
    champion, candidate = _champion_and_candidate(decision_log, losses)
    if champion is not None and candidate is not None and not _by_rank(decision_log):
        working.guard.add(candidate - champion)
        working.compared_outcomes += 1


def _record_served_block(decision_log: DecisionLog, block: RankedBlock) -> None:
    working = decision_log.working
    for line in live_lines(decision_log) & block.losses.keys():
        working.recent.setdefault(line, RecentLosses()).add_served_block(block.end, block.losses[line])
    champion, candidate = _champion_and_candidate(decision_log, block.losses)
    if champion is not None and candidate is not None and _by_rank(decision_log):
        working.guard.add_block(map(sub, candidate, champion), block.outcomes)
        working.compared_outcomes += block.outcomes


def _champion_and_candidate(decision_log: DecisionLog, losses: Mapping[str, T]) -> tuple[T | None, T | None]:
    """The losses of both lines; None for one that did not predict, or without a rollout."""
    loop = decision_log.loop
    candidate = losses.get(line_of(loop.candidate.version)) if loop.candidate else None
    return losses.get(line_of(loop.champion.version)), candidate


def _by_rank(decision_log: DecisionLog) -> bool:
    """Whether evidence is about blocks of outcomes: there is no loss of a single one by the loop's metric."""
    return decision_log.loop.spec.metric in RANKS


def _served(decision_log: DecisionLog, line: str) -> RecentLosses:
    return decision_log.working.recent.get(line) or RecentLosses()


def live_lines(decision_log: DecisionLog) -> set[str]:
    """The lines of champion and candidate."""
    loop = decision_log.loop
    return {line_of(live.version) for live in (loop.champion, loop.candidate) if live is not None}
