"""What the timeline tells of approvals."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.builders.events import event
from tests.builders.loops import NOW

from everloop_monitoring.domain.timeline import decision_entry
from everloop_schemas.approvals import ApprovalRequested, CandidateApproved

ABOUT = {"version": "b-0@400", "step": "before_canary", "approvals": 2}


@pytest.mark.parametrize(
    ("kind", "data", "what"),
    [
        (ApprovalRequested, {"expires": NOW + timedelta(days=3)}, "b-0@400 waits for 2 approvals before canary"),
        (CandidateApproved, {"approved": 1}, "b-0@400 approved by ada, 1 of 2"),
    ],
)
def test_the_timeline_says_who_must_approve_and_who_has(kind: type, data: dict[str, object], what: str) -> None:
    chain = {"sequence": 1, "prevhash": "", "subject": "b-0@400", "actor": "ada"}

    entry = decision_entry(event(kind, "one", {**ABOUT, **data, "reason": "the rules say so"}, **chain))

    assert entry is not None
    assert (entry.kind, entry.what, entry.why) == ("approval", what, "the rules say so")
