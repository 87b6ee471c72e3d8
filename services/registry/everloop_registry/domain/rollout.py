"""The rollout: how a line that won becomes champion step by step, and what takes it back."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from everloop_learning.version import Version, line_of
from everloop_registry.domain.gate import Verdict
from everloop_registry.domain.ledger import Ledger
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.refresh import DEADLINE, ENOUGH, WAITING, Waiting, worse
from everloop_schemas.registry import (
    BASELINE,
    GateDecided,
    GateDecidedData,
    ModelPromoted,
    ModelPromotedData,
    ModelRefreshed,
    ModelRefreshedData,
    ModelRolledBack,
    ModelRolledBackData,
    RolloutChanged,
    RolloutChangedData,
    Stage,
)
from everloop_schemas.training import ModelTrainedData

PATIENCE = 1000
"""Outcomes that a rollout waits for training, or for serving, before it ends."""
EVIDENCE_PATIENCE = 10_000
"""Outcomes beyond a step's own that a canary waits for outcomes of its predictions: labels may be long in coming."""
URGENT_SHARES, URGENT_STEP = (0.25, 0.5), 50
EPSILON = 1e-9


@dataclass(frozen=True)
class Plan:
    """Outcomes in shadow, then shares of the traffic for `step` outcomes each."""

    shadow: int
    shares: tuple[float, ...]
    step: int

    def after(self, share: float) -> float | None:
        """The next share above `share`, None when the last is done."""
        return next((s for s in self.shares if s > share + EPSILON), None)


def plan(loop: Loop) -> Plan:
    """The steps of this rollout: the spec's, or after an alarm no shadow and 50 + 50 outcomes, if that is shorter."""
    own = loop.spec.rollout
    if not loop.urgent:
        return Plan(own.shadow, own.canary, own.step)
    if len(own.canary) * own.step <= len(URGENT_SHARES) * URGENT_STEP:
        return Plan(0, own.canary, own.step)
    return Plan(0, URGENT_SHARES, URGENT_STEP)


def won(ledger: Ledger, verdict: Verdict) -> None:
    """A line passed the gate: training is asked for a fresh version of it."""
    loop = ledger.known
    run = ledger.work.runs.get(verdict.line)
    reason = f"evidence e^{verdict.log_e:.2f} >= e^{verdict.log_threshold:.2f} after {verdict.outcomes} outcomes"
    data = GateDecidedData(
        line=verdict.line,
        champion_line=line_of(loop.champion.version),
        passed=True,
        log_e=verdict.log_e,
        log_threshold=verdict.log_threshold,
        outcomes=verdict.outcomes,
        epoch=verdict.epoch,
        offset=verdict.offset,
        reason=reason,
        urgent=verdict.urgent,
    )
    ledger.decide(GateDecided, verdict.line, data, run)
    _step(ledger, "training", verdict.line, None, 0.0, "its line won the gate; a fresh version is being made")


def refuse(ledger: Ledger, model: ModelTrainedData, reason: str) -> None:
    """A version does not pass the light gate; a rollout that waited for it ends."""
    loop, gate = ledger.known, ledger.work.gate
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
    ledger.decide(GateDecided, model.version, data, ledger.work.runs.get(model.line, model.run))
    if loop.stage == "training" and loop.winner == model.line:
        _step(ledger, "idle", model.version, None, 0.0, f"its version was refused: {reason}")


def begin(ledger: Ledger, model: ModelTrainedData) -> None:
    """The winner has a version: it goes into shadow until serving holds it, or takes over from the baseline."""
    if ledger.known.champion.version == BASELINE:
        promote(ledger, model.version, "first model that beat the baseline on evidence: nothing to protect")
    else:
        _step(ledger, "shadow", model.version, model.version, 0.0, "serving loads it and predicts beside the champion")


def advance(ledger: Ledger) -> None:
    """Take the next step of a rollout if its outcomes are there, or end it when nothing comes."""
    loop, work = ledger.known, ledger.work
    waited = work.outcomes - loop.staged_at
    if loop.stage == "training" and waited >= PATIENCE and loop.winner is not None:
        _step(ledger, "idle", loop.winner, None, 0.0, f"training made no version of it within {PATIENCE} outcomes")
    elif loop.stage == "shadow":
        _shadowed(ledger, waited)
    elif loop.stage == "canary" and waited >= plan(loop).step:
        _canaried(ledger, waited)


def guard(ledger: Ledger) -> None:
    """Take the candidate back once its logged predictions are shown to be worse than the champion's."""
    loop, bet = ledger.known, ledger.work.guard
    if loop.candidate is not None and bet.log_e >= -log(1 - loop.spec.gate.confidence):
        take_back(ledger, f"worse than the champion in {bet.outcomes} logged predictions, evidence e^{bet.log_e:.2f}")


def take_back(ledger: Ledger, reason: str) -> None:
    """The guardrail takes the candidate out; the champion stays."""
    loop = ledger.known
    if loop.candidate is not None:
        _roll_back(ledger, loop.candidate.version, loop.champion.version, reason)


def broke(ledger: Ledger, version: str, reason: str) -> None:
    """Serving cannot use a live version: a candidate goes, a champion makes way for what served before it."""
    loop = ledger.known
    if loop.pinned:
        return
    if loop.candidate is not None and loop.candidate.version == version:
        take_back(ledger, reason)
    elif loop.champion.version == version and loop.fallback is not None:
        _roll_back(ledger, version, loop.fallback.version, reason)


def promote(ledger: Ledger, version: str, reason: str) -> None:
    """The champion changes."""
    loop = ledger.known
    data = ModelPromotedData(
        version=version, previous=loop.champion.version, reason=reason, outcomes=ledger.work.outcomes
    )
    ledger.decide(ModelPromoted, version, data, loop.run)


def offer(ledger: Ledger, model: ModelTrainedData) -> None:
    """A newer snapshot of a live line waits for the evidence that its line has not got worse."""
    work = ledger.work
    if (previous := _held(ledger, model.line)) is None or model.offset <= Version.parse(previous).offset:
        return
    fresh = Waiting(version=model.version, line=model.line, offset=model.offset, learned=work.learned)
    others = [w for w in work.waiting if w.version != model.version]
    work.waiting = [*others, fresh][-WAITING:]


def due(ledger: Ledger) -> list[Waiting]:
    """The refreshes about which something can be said now: evidence up to them is there, or their time is over.

    Of one line only the newest; it and those before it do not wait any longer.
    """
    work, found = ledger.work, dict[str, Waiting]()
    for one in work.waiting:
        known = min(work.evaluated, work.gate.last) >= one.offset and len(_gaps(ledger, one.line)) >= ENOUGH
        if known or work.learned - one.learned >= DEADLINE:
            found[one.line] = one
    work.waiting = [
        w
        for w in work.waiting
        if _held(ledger, w.line) is not None and not (w.line in found and w.offset <= found[w.line].offset)
    ]
    return list(found.values())


def refresh(ledger: Ledger, model: ModelTrainedData) -> None:
    """A newer snapshot of a live line takes its place, unless the line got worse, or nobody knows."""
    loop, work = ledger.known, ledger.work
    previous, gaps = _held(ledger, model.line), _gaps(ledger, model.line)
    if loop.pinned or previous is None or model.offset <= Version.parse(previous).offset:
        return
    if min(work.evaluated, work.gate.last) < model.offset or len(gaps) < ENOUGH:
        refuse(ledger, model, f"no evidence within {DEADLINE} outcomes that its line has not got worse")
        return
    if said := worse(gaps):
        refuse(ledger, model, said)
        return
    data = ModelRefreshedData(
        version=model.version,
        previous=previous,
        slot="champion" if previous == loop.champion.version else "candidate",
        outcomes=work.outcomes,
    )
    ledger.decide(ModelRefreshed, model.version, data, work.runs.get(model.line, model.run))


def _held(ledger: Ledger, line: str) -> str | None:
    loop = ledger.known
    held = {line_of(live.version): live.version for live in (loop.champion, loop.candidate) if live}
    return held.get(line)


def _gaps(ledger: Ledger, line: str) -> list[float]:
    recent = ledger.work.recent.get(line)
    return recent.gaps(ledger.work.served) if recent else []


def _shadowed(ledger: Ledger, waited: int) -> None:
    loop, work = ledger.known, ledger.work
    if work.ready_at is None and work.all_ready():
        work.ready_at = work.outcomes
    if work.ready_at is None:
        if waited >= PATIENCE:
            take_back(ledger, f"not every live serving instance had it ready within {PATIENCE} outcomes")
    elif work.outcomes - work.ready_at >= plan(loop).shadow:
        _next_share(ledger)


def _canaried(ledger: Ledger, waited: int) -> None:
    """A step is over when the candidate's own predictions in it have outcomes: without them nobody knows of harm."""
    step, judged = plan(ledger.known).step, ledger.work.judged
    if judged >= min(ENOUGH, step):
        _next_share(ledger)
    elif waited >= step + EVIDENCE_PATIENCE:
        take_back(ledger, f"only {judged} of its predictions had outcomes within {waited} outcomes of a step")


def _next_share(ledger: Ledger) -> None:
    loop = ledger.known
    assert loop.candidate is not None, "shadow and canary have a candidate"
    version, share = loop.candidate.version, plan(loop).after(loop.share)
    if share is None:
        promote(ledger, version, "held through every step of its rollout")
    else:
        _step(ledger, "canary", version, version, share, f"{share:.0%} of the traffic")


def _step(ledger: Ledger, stage: Stage, subject: str, candidate: str | None, share: float, reason: str) -> None:
    run = ledger.known.run
    data = RolloutChangedData(
        stage=stage, candidate=candidate, share=share, outcomes=ledger.work.outcomes, reason=reason
    )
    ledger.decide(RolloutChanged, subject, data, run)


def _roll_back(ledger: Ledger, rolled_back: str, version: str, reason: str) -> None:
    work = ledger.work
    data = ModelRolledBackData(
        version=version,
        rolled_back=rolled_back,
        by="guardrail",
        reason=reason,
        pinned=False,
        outcomes=work.outcomes,
    )
    run = work.runs.get(line_of(rolled_back)) or ledger.known.run
    ledger.decide(ModelRolledBack, rolled_back, data, run)
