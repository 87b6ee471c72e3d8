"""What the status says follows from what Everloop answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.operator.builders import listed

from everloop_operator.status import (
    describe_errors,
    describe_quality,
    describe_rollout,
    describe_substitutes,
    find_condition,
    merge_patch,
    set_condition,
)

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
ANSWER: dict[str, Any] = {
    "predictions": 40,
    "outcomes": 30,
    "champion": {"version": "logistic@20", "since": "2024-05-01T12:00:00+00:00", "serving": {}},
    "rollout": {"stage": "canary", "share": 0.25, "candidate": "forest@25", "approval": None},
    "metric": {"name": "f1", "served": 0.81236, "rolling": 0.9, "no_change": None, "majority": 0.5},
    "drifts": 2,
    "runs": 3,
}


def test_a_condition_keeps_the_time_of_its_last_change_of_status() -> None:
    status: dict[str, Any] = {}
    at = [NOON + timedelta(minutes=m) for m in range(3)]

    told = [
        set_condition(status, "Ready", "False", "NotUsedYet", "ingest", generation=1, now=at[0]),
        set_condition(status, "Ready", "False", "NotUsedYet", "feature", generation=2, now=at[1]),
        set_condition(status, "Ready", "True", "Serving", "", generation=2, now=at[2]),
    ]

    assert told == [True, False, True]
    assert find_condition(status, "Ready")["lastTransitionTime"] == "2024-05-01T12:02:00Z"
    assert find_condition(status, "Ready")["observedGeneration"] == 2
    assert find_condition(status, "Accepted") == {}


def test_quality_is_the_loop_s_metric_beside_the_baselines_with_four_digits() -> None:
    described = describe_quality(ANSWER)

    scores = {"metric": "f1", "served": 0.8124, "rolling": 0.9, "majority": 0.5}
    assert described["quality"] == {**scores, "predictions": 40, "outcomes": 30}
    assert described["rollout"] == {"stage": "canary", "share": 0.25, "candidate": "forest@25"}
    assert (described["drifts"], described["runs"]) == (2, 3)


def test_before_the_first_outcome_there_are_no_scores() -> None:
    described = describe_quality(ANSWER | {"outcomes": 0})

    assert described["quality"] == {"metric": "f1", "predictions": 40, "outcomes": 0}


def test_an_approval_that_is_waited_for_is_told() -> None:
    approval = {"version": "forest@25", "step": "before_canary", "approvals": 2, "approved_by": ["ann"], "expires": "T"}

    described = describe_quality(ANSWER | {"rollout": ANSWER["rollout"] | {"approval": approval}})

    assert described["rollout"]["approval"] == "before_canary: forest@25 has 1 of 2 approvals, until T"


def test_what_was_known_of_a_champion_is_forgotten_with_it() -> None:
    old = describe_quality(ANSWER)

    same = describe_rollout(listed(champion="logistic@20", stage="canary", share=0.5), old)
    other = describe_rollout(listed(champion="forest@25"), old)

    assert same["champion"] == old["champion"]
    assert same["rollout"] == {"stage": "canary", "share": 0.5, "candidate": "forest@25"}
    assert other["champion"] == {"version": "forest@25"}
    assert other["rollout"] == {"stage": "idle", "share": 0.0}


def test_instances_that_cannot_load_the_champion_are_named() -> None:
    serving = {"serving-1": {"version": "0", "reason": "the file is gone"}}

    told = describe_substitutes({"champion": ANSWER["champion"] | {"serving": serving}})

    assert told == "serving-1 serves 0: the file is gone"
    assert describe_substitutes(ANSWER) is None


def test_errors_are_bounded_in_number_and_in_length() -> None:
    described = describe_errors([(f"schema.f{i}", "x" * 5000) for i in range(500)])

    assert len(described) == 20
    assert max(len(entry["error"]) for entry in described) == 1000


@pytest.mark.parametrize(
    ("old", "new", "patch"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, {"a": {"c": None}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1}}, {}, {"a": None}),
    ],
)
def test_a_patch_has_only_what_differs(old: dict[str, Any], new: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge_patch(old, new) == patch
