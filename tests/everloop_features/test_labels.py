"""Labels and feedback are checked by the loop's task."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders.loops import loop_spec

from everloop_features.labels import CheckedLabel, LabelKind, check_label
from everloop_schemas.loop import LoopSpec

COLOURS = {"task": "multiclass", "label": {"classes": ["red", "green", 3]}}
REGRESSION = {"task": "regression"}
COUNTS = {"task": "regression", "label": {"type": "integer"}}
NAMES = {"task": "multiclass"}
CODES = {"task": "multiclass", "label": {"type": "integer"}}
AGES = {"task": "regression", "label": {"min": 0, "max": 150}}


def spec_of(**changes: Any) -> LoopSpec:
    """A binary loop with these changes."""
    return loop_spec(**changes)


@pytest.mark.parametrize(
    ("loop", "label", "expected"),
    [
        ({}, True, True),
        ({}, 0, False),
        (COLOURS, "red", "red"),
        (COLOURS, 3, 3),
        (REGRESSION, 3, 3.0),
        (REGRESSION, -1.5, -1.5),
        (COUNTS, 3, 3),
        (NAMES, "x", "x"),
        (CODES, 0, 0),
        ({"task": "multiclass", "label": {"classes": ["<unknown>", "known"]}}, "<unknown>", "<unknown>"),
        (AGES, 150, 150.0),
        (REGRESSION, 2**63 - 1, float(2**63)),
        (REGRESSION, -1e19, -1e19),
    ],
)
def test_a_valid_label_is_normalised_to_the_type_of_the_loop(loop: dict[str, Any], label: Any, expected: Any) -> None:
    spec = spec_of(**loop)

    checked = check_label(spec, "label", {"id": "p", "label": label})

    assert isinstance(checked, CheckedLabel)
    assert (checked.label, type(checked.label)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("loop", "kind", "body", "field", "fix"),
    [
        ({}, "label", {"id": "p", "label": 2}, "label", "true or false"),
        (NAMES, "label", {"id": "p", "label": "<unknown>"}, "label", "reserved"),
        (NAMES, "feedback", {"id": "p", "label": "<unknown>"}, "label", "reserved"),
        (CODES, "label", {"id": "p", "label": -(2**63)}, "label", "reserved"),
        ({}, "label", {"id": "p", "label": "true"}, "label", "true or false"),
        ({}, "label", {"id": "p", "label": 1.0}, "label", "true or false"),
        ({}, "label", {"id": "p"}, "label", "missing"),
        ({}, "label", {"id": "p", "label": True, "correct": True}, "correct", "not known"),
        ({}, "label", {"label": True}, "id", "event's id"),
        ({}, "label", {"id": 7, "label": True}, "id", "text"),
        ({}, "label", {"id": "p", "label": True, "time": "noon"}, "time", "RFC 3339"),
        ({}, "label", ["p", True], "body", "object"),
        (COLOURS, "label", {"id": "p", "label": "blue"}, "label", '"red", "green", 3'),
        (COLOURS, "label", {"id": "p", "label": 3.0}, "label", "one of"),
        (REGRESSION, "label", {"id": "p", "label": True}, "label", "finite number"),
        (REGRESSION, "label", {"id": "p", "label": float("inf")}, "label", "finite number"),
        (COUNTS, "label", {"id": "p", "label": 2**63}, "label", "64 bits"),
        ({}, "feedback", {"id": "p"}, "correct", "missing"),
        ({}, "feedback", {"id": "p", "correct": "no"}, "correct", "true or false"),
        ({}, "feedback", {"id": "p", "correct": False, "label": True}, "correct", "one of the two"),
        ({}, "feedback", {"id": "p", "correct": False, "comment": 7}, "comment", "text"),
        ({}, "feedback", {"id": "p", "correct": False, "source": "x" * 1_001}, "source", "1,000"),
        (NAMES, "label", {"id": "p", "label": "\ud800"}, "label", "text"),
        (AGES, "label", {"id": "p", "label": -1}, "label", "at least 0"),
        (AGES, "feedback", {"id": "p", "label": 150.5}, "label", "at most 150"),
        (REGRESSION, "label", {"id": "p", "label": 1.1e19}, "label", "at most 1e+19"),
        (REGRESSION, "label", {"id": "p", "label": -1.7976931348623157e308}, "label", "at least -1e+19"),
        (REGRESSION, "feedback", {"id": "p", "correct": False}, "label", "a finite number, not correct"),
    ],
)
def test_an_error_names_the_field_and_the_fix(
    loop: dict[str, Any], kind: LabelKind, body: Any, field: str, fix: str
) -> None:
    spec = spec_of(**loop)

    wrong = check_label(spec, kind, body)

    assert isinstance(wrong, list)
    assert wrong[0].field == field
    assert fix in wrong[0].error


@given(
    ids=st.text(min_size=1, max_size=5),
    labels=st.tuples(st.booleans(), st.booleans()),
    loops=st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["a", "b"])),
)
def test_event_ids_under_one_key_are_equal_exactly_for_equal_content(
    ids: str, labels: tuple[bool, bool], loops: tuple[str, str]
) -> None:
    first, second = (CheckedLabel(ids, "label", label, None, None, None, None, "key") for label in labels)

    same = first.event_id(loops[0]) == second.event_id(loops[1])

    assert same == (labels[0] == labels[1] and loops[0] == loops[1])


def test_labels_are_checked_against_the_given_spec() -> None:
    specs: list[LoopSpec] = [spec_of(), spec_of(**COLOURS)]

    checked = [check_label(spec, "label", {"id": "p", "label": "red"}) for spec in specs]

    assert [isinstance(s, CheckedLabel) for s in checked] == [False, True]


@pytest.mark.parametrize(
    ("loop", "message"),
    [
        ({"task": "regression", "label": {"min": 2, "max": 1}}, "above max"),
        ({"task": "regression", "label": {"min": 1e20}}, "above max"),
        ({"label": {"min": 0}}, "labels that are numbers"),
        ({"task": "multiclass", "label": {"max": 3}}, "labels that are numbers"),
        ({"task": "multiclass", "label": {"classes": [1, 2], "max": 3}}, "without classes"),
    ],
)
def test_impossible_bounds_of_a_label_are_refused_with_the_spec(loop: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec_of(**loop)


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ({}, "string"),
        ({"classes": ["a", "b"]}, "string"),
        ({"classes": [0, 1, 2]}, "integer"),
        ({"classes": [True, False]}, "boolean"),
        ({"type": "integer", "classes": [0, 1, 2]}, "integer"),
    ],
)
def test_the_label_type_follows_from_the_classes(label: dict[str, Any], kind: str) -> None:
    assert spec_of(task="multiclass", label=label).label_type == kind
