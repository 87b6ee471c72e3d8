"""What a label or feedback must be, by the loop's task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop_ingest.domain.documents import Entry
from everloop_ingest.domain.labels import Kind, Word, word
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState

State = Callable[..., LoopState]
COLOURS = {"task": "multiclass", "label": {"classes": ["red", "green", 3]}}
REGRESSION = {"task": "regression"}
COUNTS = {"task": "regression", "label": {"type": "integer"}}
NAMES = {"task": "multiclass"}


@pytest.mark.parametrize(
    ("loop", "label", "meant"),
    [
        ({}, True, True),
        ({}, 0, False),
        (COLOURS, "red", "red"),
        (COLOURS, 3, 3),
        (REGRESSION, 3, 3.0),
        (REGRESSION, -1.5, -1.5),
        (COUNTS, 3, 3),
        (NAMES, "x", "x"),
    ],
)
def test_a_label_that_fits_has_one_spelling(state: State, loop: dict[str, Any], label: Any, meant: Any) -> None:
    spec = state(**loop).data.spec

    said = word(spec, "label", Entry({"id": "p", "label": label}))

    assert isinstance(said, Word)
    assert (said.label, type(said.label)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("loop", "kind", "body", "field", "fix"),
    [
        ({}, "label", {"id": "p", "label": 2}, "label", "true or false"),
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
        (REGRESSION, "feedback", {"id": "p", "correct": False}, "label", "a finite number, not correct"),
    ],
)
def test_what_does_not_fit_names_the_field_and_the_fix(
    state: State, loop: dict[str, Any], kind: Kind, body: Any, field: str, fix: str
) -> None:
    spec = state(**loop).data.spec

    wrong = word(spec, kind, Entry(body))

    assert isinstance(wrong, list)
    assert wrong[0].field == field
    assert fix in wrong[0].error


@given(
    ids=st.text(min_size=1, max_size=5),
    labels=st.tuples(st.booleans(), st.booleans()),
    loops=st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["a", "b"])),
)
def test_event_ids_tell_apart_exactly_what_differs(ids: str, labels: tuple[bool, bool], loops: tuple[str, str]) -> None:
    first, second = (Word(ids, "label", label, None, None, None, None) for label in labels)

    same = first.event_id(loops[0]) == second.event_id(loops[1])

    assert same == (labels[0] == labels[1] and loops[0] == loops[1])


def test_a_spec_change_reaches_the_check(state: State) -> None:
    specs: list[LoopSpec] = [state(1).data.spec, state(2, **COLOURS).data.spec]

    said = [word(spec, "label", Entry({"id": "p", "label": "red"})) for spec in specs]

    assert [isinstance(s, Word) for s in said] == [False, True]
