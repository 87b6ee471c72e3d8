"""A loop belongs to one resource, whatever namespaces the others are in."""

from __future__ import annotations

from tests.operator.builders import accepted, condition

from everloop_operator.ownership import Claim, Owners, has_applied

OLD = Claim("shop/churn", "1", "2024-05-01T12:00:00Z", has_applied=False)
NEW = Claim("bank/churn", "2", "2024-05-02T12:00:00Z", has_applied=False)
APPLIED = Claim("bank/churn", "2", "2024-05-02T12:00:00Z", has_applied=True)


def test_the_older_of_two_new_resources_has_the_loop() -> None:
    assert Owners().find("churn", [NEW, OLD]) == OLD


def test_a_resource_that_has_applied_the_loop_has_it_after_a_restart_too() -> None:
    assert Owners().find("churn", [APPLIED, OLD]) == APPLIED


def test_a_loop_changes_hands_only_when_its_resource_is_gone() -> None:
    owners = Owners()

    assert owners.find("churn", [NEW]) == NEW
    assert owners.find("churn", [OLD, NEW]) == NEW
    assert owners.find("churn", [OLD]) == OLD


def test_of_a_loop_that_nobody_claims_nothing_is_remembered() -> None:
    owners = Owners()
    owners.find("churn", [NEW])

    assert owners.find("churn", []) is None
    assert owners.find("churn", [OLD, NEW]) == OLD


def test_a_spec_that_was_refused_does_not_make_the_loop_the_resource_s() -> None:
    assert has_applied(accepted())
    assert has_applied({"conditions": [condition("Accepted", "Unknown", "Applying")]})
    assert not has_applied({"conditions": [condition("Accepted", "False", "Refused")]})
    assert not has_applied({})
