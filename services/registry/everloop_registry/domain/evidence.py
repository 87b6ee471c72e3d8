"""Losses as evidence: what the lines did for the gate, what serving predicted for the guardrail."""

from __future__ import annotations

from everloop_registry.domain.gate import Verdict
from everloop_registry.domain.ledger import Ledger
from everloop_registry.domain.refresh import Recent
from everloop_schemas.monitoring import EvaluationUpdatedData
from everloop_schemas.registry import line_of
from everloop_schemas.training import ChallengeUpdatedData


def learned(ledger: Ledger, update: ChallengeUpdatedData) -> Verdict | None:
    """Take in the lines' losses; the line that passed the gate, if one did. A pinned loop has no gate."""
    loop, work = ledger.known, ledger.work
    for line in _live(ledger):
        recent = work.recent.setdefault(line, Recent())
        for offset, loss in zip(update.offsets, update.losses.get(line, ()), strict=False):
            if loss is not None and offset > work.gate.last:
                recent.learned(offset, loss)
    if loop.pinned:
        work.gate.last = max([work.gate.last, *update.offsets[-1:]])
        return None
    return work.gate.observe(line_of(loop.champion.version), update, loop.spec.gate)


def evaluated(ledger: Ledger, update: EvaluationUpdatedData) -> bool:
    """Take in the losses of served versions and shadows; False where all of it was seen before."""
    work, live = ledger.work, _live(ledger)
    if update.outcomes <= work.outcomes:
        return False
    work.outcomes = update.outcomes
    work.recent = {line: recent for line, recent in work.recent.items() if line in live}
    for i, offset in enumerate(update.offsets):
        if offset > work.evaluated:
            losses = {line_of(v): loss for v, of in update.losses.items() if (loss := of[i]) is not None}
            _outcome(ledger, offset, losses)
    work.evaluated = max([work.evaluated, *update.offsets[-1:]])
    return True


def _outcome(ledger: Ledger, offset: int, losses: dict[str, float]) -> None:
    loop, work = ledger.known, ledger.work
    for line in _live(ledger):
        if line in losses:
            work.recent.setdefault(line, Recent()).logged(offset, losses[line])
    if loop.candidate is None:
        return
    champion = losses.get(line_of(loop.champion.version))
    candidate = losses.get(line_of(loop.candidate.version))
    if champion is not None and candidate is not None:
        work.guard.add(candidate - champion)


def _live(ledger: Ledger) -> set[str]:
    loop = ledger.known
    return {line_of(live.version) for live in (loop.champion, loop.candidate) if live is not None}
