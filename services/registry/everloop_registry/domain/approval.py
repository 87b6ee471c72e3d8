"""The approval that a candidate waits for: who has approved, who must, and until when."""

from __future__ import annotations

from datetime import datetime

from everloop_registry.errors import Conflict, DecisionsInconsistent
from everloop_schemas.approvals import ApprovalRequested, CandidateApproved
from everloop_schemas.loop_parts import RolloutSpec
from everloop_schemas.registry import ApprovalStep, LiveVersion, PendingApproval, Stage


def required_approval(spec: RolloutSpec, stage: Stage, share: float | None) -> ApprovalStep | None:
    """The approval that a step takes: out of `stage`, to a `share` of the traffic, where None makes it champion."""
    if spec.approval == "before_canary" and stage == "shadow":
        return "before_canary"
    if spec.approval == "before_champion" and share is None:
        return "before_champion"
    return None


def fold_approval(
    pending: PendingApproval | None, candidate: LiveVersion | None, decision: ApprovalRequested | CandidateApproved
) -> PendingApproval:
    """What the candidate waits for after a decision about it; raises DecisionsInconsistent where it cannot follow."""
    data = decision.data
    if candidate is None or data.version != candidate.version:
        raise DecisionsInconsistent(f"{decision.loop}: decision {decision.sequence} is not about its candidate")
    if isinstance(decision, ApprovalRequested):
        asked = decision.data
        return PendingApproval(
            version=asked.version,
            step=asked.step,
            approvals=asked.approvals,
            asked=decision.time,
            expires=asked.expires,
        )
    actor = decision.actor or ""
    if pending is None or actor in pending.approved_by:
        raise DecisionsInconsistent(f"{decision.loop}: decision {decision.sequence} approves what does not wait for it")
    return pending.model_copy(update={"approved_by": (*pending.approved_by, actor)})


def awaited_approval(
    pending: PendingApproval | None, candidate: LiveVersion | None, version: str | None, now: datetime
) -> PendingApproval:
    """What a person approves of, who may name the version; raises Conflict where nothing waits for that."""
    if candidate is None:
        raise Conflict("no candidate is in rollout: there is nothing to approve")
    if version is not None and version != candidate.version:
        raise Conflict(f"{version} is not in rollout: the candidate is {candidate.version}")
    if pending is None:
        raise Conflict(f"{candidate.version} waits for no approval: its rollout goes on by itself")
    if reason := expiry_reason(pending, now):
        raise Conflict(f"{candidate.version} is being rolled back: {reason}")
    return pending


def is_complete(pending: PendingApproval) -> bool:
    """Whether as many people have approved as must."""
    return len(pending.approved_by) >= pending.approvals


def expiry_reason(pending: PendingApproval, now: datetime) -> str | None:
    """Why the candidate no longer waits; None while it does."""
    if now < pending.expires:
        return None
    return (
        f"{len(pending.approved_by)} of {pending.approvals} approvals {pending.step.replace('_', ' ')} "
        f"had come when they expired, at {pending.expires:%Y-%m-%d %H:%M:%S} UTC"
    )
