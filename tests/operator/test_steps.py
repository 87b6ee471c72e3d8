"""Which step a resource needs is decided by its status and the registry's list alone."""

from __future__ import annotations

from typing import Any

import pytest
from tests.operator.builders import accepted, condition, listed, resource

from everloop_operator.reconciler import Step, choose_step
from everloop_operator.resource import LoopResource

REPORT = {"everloop.io/on-drift": "report"}
NEW = resource()
ANNOUNCED = resource(status={"conditions": [condition("Accepted", "Unknown", "Applying")]})
APPLIED = resource(status=accepted())
CHANGED = resource(status=accepted(), generation=2)
REFUSED = resource(status=accepted(revision=None, conditions=[condition("Accepted", "False", "Refused")]))
TAKEN = resource(status={"observedGeneration": 1, "conditions": [condition("Accepted", "False", "NameTaken")]})
TOLD_ONLY = resource(status=accepted(), annotations=REPORT)


@pytest.mark.parametrize(
    ("given", "found", "step"),
    [
        (NEW, None, "announce"),
        (NEW, listed(), "announce"),
        (ANNOUNCED, None, "apply"),
        (APPLIED, listed(), "agree"),
        (CHANGED, listed(), "apply"),
        (APPLIED, listed(revision=5), "apply"),
        (APPLIED, None, "apply"),
        (TOLD_ONLY, listed(revision=5), "tell"),
        (TOLD_ONLY, None, "tell"),
        (REFUSED, listed(), "wait"),
        (TAKEN, listed(), "announce"),
    ],
)
def test_a_step_follows_from_status_and_list(given: LoopResource, found: dict[str, Any] | None, step: Step) -> None:
    assert choose_step(given, found, is_due_again=False) == step


def test_a_refused_spec_is_applied_again_after_a_while() -> None:
    assert choose_step(REFUSED, listed(), is_due_again=True) == "apply"
