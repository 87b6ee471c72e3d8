"""What a person may make champion without waiting for the rest of a rollout."""

from __future__ import annotations

from everloop_learning.version import line_of
from everloop_registry.domain.approval import required_approval
from everloop_registry.domain.decision_log import DecisionLog
from everloop_registry.domain.loop import Loop
from everloop_registry.errors import Conflict
from everloop_schemas.registry import BASELINE


def version_to_promote(decision_log: DecisionLog, version: str | None) -> str | None:
    """The version that a person may promote: the candidate, or one by name; None where that is champion already.

    Raises Conflict, which says what to do instead.
    """
    loop, working = decision_log.loop, decision_log.working
    chosen = version or (loop.candidate.version if loop.candidate else None)
    if chosen is None:
        raise Conflict("no candidate is in rollout; name a registered version")
    if chosen == loop.champion.version:
        return None
    if loop.pinned:
        raise Conflict(f"pinned to {loop.champion.version} by a rollback; resume first: everloop resume {loop.loop}")
    if loop.candidate is None or chosen != loop.candidate.version:
        _check_outside_rollout(loop, chosen)
    elif _misses_approval(loop):
        needed = loop.approval.approvals if loop.approval else loop.spec.rollout.approvals
        step = loop.spec.rollout.approval.replace("_", " ")
        raise Conflict(
            f"the spec asks for {needed} approvals {step}: everloop approve {loop.loop}, once it waits for them"
        )
    elif loop.stage == "shadow" and working.ready_at is None and not working.all_instances_ready():
        raise Conflict(f"not every live instance of serving has {chosen} ready; try again in a moment")
    return chosen


def _misses_approval(loop: Loop) -> bool:
    if loop.approval is not None:
        return True
    return required_approval(loop.spec.rollout, loop.stage, None) is not None


def _check_outside_rollout(loop: Loop, version: str) -> None:
    if loop.stage != "idle":
        running = loop.candidate.version if loop.candidate else loop.winner
        raise Conflict(f"{running} is in rollout; reject it first: everloop reject {loop.loop}")
    if loop.spec.rollout.approval != "none":
        raise Conflict("the spec asks for approvals: only a candidate that has gone through its rollout is promoted")
    if version == BASELINE or line_of(version) == line_of(loop.champion.version):
        raise Conflict(f"{version} is no challenger; to go back: everloop rollback {loop.loop} --to {version}")
