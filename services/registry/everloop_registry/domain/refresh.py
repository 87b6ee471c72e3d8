"""The refresh check: whether a live line's newer snapshot takes the place of the one that is served."""

from __future__ import annotations

from everloop_learning.version import Version
from everloop_registry.domain.decision_log import DecisionLog
from everloop_registry.domain.recent_losses import MIN_COMPARED_OUTCOMES, regression_reason
from everloop_registry.domain.rollout import refuse_version
from everloop_registry.domain.working_state import WaitingRefresh
from everloop_schemas.registry import ModelRefreshed, ModelRefreshedData
from everloop_schemas.training import ModelTrainedData

REFRESH_DEADLINE_OUTCOMES = 1000
"""The further outcomes with losses from training for which a refresh waits for evidence; then it is refused."""
MAX_WAITING_REFRESHES = 10


def queue_refresh(decision_log: DecisionLog, model: ModelTrainedData) -> None:
    """Let a newer snapshot of a live line wait for the evidence that the line has not got worse."""
    working = decision_log.working
    if (live := _live_version(decision_log, model.line)) is None or model.offset <= Version.parse(live).offset:
        return
    refresh = WaitingRefresh(
        version=model.version, line=model.line, offset=model.offset, learned_outcomes=working.learned_outcomes
    )
    others = [w for w in working.waiting_refreshes if w.version != model.version]
    working.waiting_refreshes = [*others, refresh][-MAX_WAITING_REFRESHES:]


def take_due_refreshes(decision_log: DecisionLog) -> list[WaitingRefresh]:
    """The refreshes that can be decided now: evidence up to them is there, or their deadline has passed.

    Of each line only the newest is returned; it and the earlier ones no longer wait.
    """
    working, due = decision_log.working, dict[str, WaitingRefresh]()
    for waiting in working.waiting_refreshes:
        overdue = working.learned_outcomes - waiting.learned_outcomes >= REFRESH_DEADLINE_OUTCOMES
        if overdue or _has_evidence(decision_log, waiting.line, waiting.offset):
            due[waiting.line] = waiting
    working.waiting_refreshes = [
        w
        for w in working.waiting_refreshes
        if _live_version(decision_log, w.line) is not None and not (w.line in due and w.offset <= due[w.line].offset)
    ]
    return list(due.values())


def decide_refresh(decision_log: DecisionLog, model: ModelTrainedData) -> None:
    """Let a newer snapshot of a live line take its place, unless the line got worse or the evidence is missing.

    A candidate that people are asked to approve stays the version that they see.
    """
    loop, working = decision_log.loop, decision_log.working
    live = _live_version(decision_log, model.line)
    if loop.pinned or live is None or model.offset <= Version.parse(live).offset:
        return
    if loop.approval is not None and live == loop.approval.version:
        return
    if not _has_evidence(decision_log, model.line, model.offset):
        reason = f"no evidence within {REFRESH_DEADLINE_OUTCOMES} outcomes that its line has not got worse"
        refuse_version(decision_log, model, reason)
        return
    if regression := regression_reason(_gaps(decision_log, model.line)):
        refuse_version(decision_log, model, regression)
        return
    data = ModelRefreshedData(
        version=model.version,
        previous=live,
        slot="champion" if live == loop.champion.version else "candidate",
        outcomes=working.outcomes,
    )
    decision_log.decide(ModelRefreshed, model.version, data, working.runs.get(model.line, model.run))


def _has_evidence(decision_log: DecisionLog, line: str, offset: int) -> bool:
    working = decision_log.working
    known_up_to = min(working.evaluated_offset, working.gate.last_offset)
    return known_up_to >= offset and len(_gaps(decision_log, line)) >= MIN_COMPARED_OUTCOMES


def _live_version(decision_log: DecisionLog, line: str) -> str | None:
    loop = decision_log.loop
    versions = {Version.parse(live.version).line: live.version for live in (loop.champion, loop.candidate) if live}
    return versions.get(line)


def _gaps(decision_log: DecisionLog, line: str) -> list[float]:
    recent = decision_log.working.recent.get(line)
    return recent.gaps(decision_log.working.served) if recent else []
