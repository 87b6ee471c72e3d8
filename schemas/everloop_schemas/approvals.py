"""What the registry publishes about approvals: that people are asked for them, and each one that is given."""

from __future__ import annotations

from typing import ClassVar, Literal

from everloop_schemas.envelope import ControlData, ControlTimestamp, Topic
from everloop_schemas.registry import ApprovalStep, Decided


class ApprovalRequestedData(ControlData):
    """`version` waits before this step of its rollout, until `expires` at most, after `outcomes` of the loop."""

    version: str
    step: ApprovalStep
    approvals: int
    expires: ControlTimestamp
    reason: str
    outcomes: int = 0


class ApprovalRequested(Decided):
    """A candidate has come to the step that people must approve; `subject` is its version."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.approval_requested.v1"] = "registry.approval_requested.v1"
    data: ApprovalRequestedData


class CandidateApprovedData(ControlData):
    """The actor approves of `version`: the `approved`-th of `approvals` people."""

    version: str
    step: ApprovalStep
    approved: int
    approvals: int
    reason: str


class CandidateApproved(Decided):
    """One more person has approved of a candidate, the actor; `subject` is its version."""

    topic: ClassVar[Topic] = Decided.topic
    type: Literal["registry.candidate_approved.v1"] = "registry.candidate_approved.v1"
    data: CandidateApprovedData
