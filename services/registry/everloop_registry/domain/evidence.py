"""Losses as evidence: what the lines did for the gate, what serving predicted for the guardrail."""

from __future__ import annotations

from collections.abc import Mapping

from everloop_learning.version import line_of
from everloop_registry.domain.gate import Verdict
from everloop_registry.domain.ledger import Ledger
from everloop_registry.domain.refresh import Recent, keep_loss
from everloop_schemas.monitoring import EvaluationUpdatedData
from everloop_schemas.training import ChallengeUpdatedData


def learned(ledger: Ledger, update: ChallengeUpdatedData) -> Verdict | None:
    """Take in the lines' losses; the line that passed the gate, if one did. A pinned loop has no gate."""
    loop, work = ledger.known, ledger.work
    work.learned += sum(offset > work.gate.last for offset in update.offsets)
    for line in live_lines(ledger):
        recent = work.recent.setdefault(line, Recent())
        for offset, loss in zip(update.offsets, update.losses.get(line, ()), strict=False):
            if loss is not None and offset > work.gate.last:
                recent.learned(offset, loss)
    if loop.pinned:
        work.gate.last = max([work.gate.last, *update.offsets[-1:]])
        return None
    champion = line_of(loop.champion.version)
    return work.gate.observe(champion, update, loop.spec.gate, _logged(ledger, champion))


def settled(ledger: Ledger) -> Verdict | None:
    """The line that passes now that what was served on outcomes without the champion's line is known, if one does."""
    loop = ledger.known
    if loop.pinned:
        return None
    return ledger.work.gate.settle(loop.spec.gate, _logged(ledger, line_of(loop.champion.version)))


def evaluated(ledger: Ledger, update: EvaluationUpdatedData) -> bool:
    """Take in the losses of served versions and shadows; False where all of it was seen before."""
    work, live = ledger.work, live_lines(ledger)
    if update.outcomes <= work.outcomes:
        return False
    work.outcomes = update.outcomes
    work.recent = {line: recent for line, recent in work.recent.items() if line in live}
    for i, offset in enumerate(update.offsets):
        if offset > work.evaluated:
            losses = {line_of(v): loss for v, of in update.losses.items() if (loss := of[i]) is not None}
            if (served := update.losses.get(update.served[i], ())[i : i + 1]) and served[0] is not None:
                keep_loss(work.served, offset, served[0])
            _outcome(ledger, offset, losses)
    work.evaluated = max([work.evaluated, *update.offsets[-1:]])
    return True


def _outcome(ledger: Ledger, offset: int, losses: dict[str, float]) -> None:
    loop, work = ledger.known, ledger.work
    for line in live_lines(ledger):
        if line in losses:
            work.recent.setdefault(line, Recent()).logged(offset, losses[line])
    if loop.candidate is None:
        return
    champion = losses.get(line_of(loop.champion.version))
    candidate = losses.get(line_of(loop.candidate.version))
    if champion is not None and candidate is not None:
        work.guard.add(candidate - champion)
        work.judged += 1


def _logged(ledger: Ledger, line: str) -> Mapping[int, float]:
    recent = ledger.work.recent.get(line)
    return recent.served if recent else {}


def live_lines(ledger: Ledger) -> set[str]:
    """The lines of champion and candidate."""
    loop = ledger.known
    return {line_of(live.version) for live in (loop.champion, loop.candidate) if live is not None}
