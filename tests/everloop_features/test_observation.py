"""Observations are checked against a loop's schema."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop_features.observation import Observation, check_fields, check_observation
from everloop_schemas.loop import LoopSpec

SPEC = LoopSpec.model_validate(
    {
        "loop": "shop",
        "task": "binary",
        "schema": {
            "price": {"type": "number", "min": 0, "max": 100},
            "pieces": {"type": "integer"},
            "member": {"type": "boolean"},
            "country": {"type": "string", "enum": ["de", "fr"]},
            "note": {"type": "string", "missing": None},
        },
    }
)
GOOD: dict[str, Any] = {"price": 1.5, "pieces": 2, "member": True, "country": "de", "note": "x"}


def test_valid_fields_are_returned_unchanged_in_the_schemas_order() -> None:
    data = dict(reversed(GOOD.items()))

    fields = check_fields(SPEC, data)

    assert fields == GOOD
    assert list(fields) == list(SPEC.fields)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("price", "1.5", "number"),
        ("price", True, "number"),
        ("price", float("nan"), "finite"),
        ("price", float("-inf"), "finite"),
        ("price", 10**400, "64 bits"),
        ("price", -0.1, "at least 0"),
        ("price", 100.5, "at most 100"),
        ("price", None, "missing"),
        ("price", [1], "list"),
        ("pieces", 2.0, "whole"),
        ("pieces", False, "whole"),
        ("member", 1, "true or false"),
        ("country", "it", "de, fr"),
        ("country", 7, "text"),
        ("note", "x" * 1001, "1,000"),
        ("note", "\ud800", "Unicode"),
        ("other", 1, "schema"),
    ],
)
def test_an_error_in_a_field_names_the_fix(field: str, value: Any, message: str) -> None:
    errors = check_fields(SPEC, GOOD | {field: value})

    assert isinstance(errors, list)
    assert [e.field for e in errors] == [f"data.{field}"]
    assert message in errors[0].error


def test_only_a_field_that_may_be_missing_may_be_left_out() -> None:
    without_note = {k: v for k, v in GOOD.items() if k != "note"}

    fields, errors = check_fields(SPEC, without_note), check_fields(SPEC, {"note": None})

    assert fields == GOOD | {"note": None}
    assert isinstance(errors, list)
    assert [e.field for e in errors] == ["data.price", "data.pieces", "data.member", "data.country"]


def test_ids_and_time_may_be_left_out() -> None:
    bare = check_observation(SPEC, {"data": GOOD})
    full = check_observation(SPEC, {"id": "a", "entity": "b", "time": "2024-05-01T12:00:00+02:00", "data": GOOD})

    moment = datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert bare == Observation(None, "default", None, GOOD)
    assert full == Observation("a", "b", moment, GOOD)
    assert isinstance(full, Observation)
    assert full.time is not None
    assert full.time.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", 7),
        ("id", "x" * 257),
        ("id", "\ud800"),
        ("entity", []),
        ("time", "yesterday"),
        ("time", "2024-05-01T12:00:00"),
        ("time", "0001-01-01T00:00:00+14:00"),
        ("time", 1714556400),
        ("data", "price=1"),
        ("enitity", "b"),
    ],
)
def test_errors_beside_the_fields_are_named(field: str, value: Any) -> None:
    errors = check_observation(SPEC, {"data": GOOD, field: value})

    assert isinstance(errors, list)
    assert [e.field for e in errors] == [field]


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
JSON = st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(st.text(), v))


@settings(max_examples=40)
@given(JSON, st.dictionaries(st.sampled_from([*GOOD, "other"]), JSON))
def test_no_input_raises_and_a_valid_observation_can_be_published(body: Any, data: dict[str, Any]) -> None:
    for seen in (check_observation(SPEC, body), check_observation(SPEC, {"data": GOOD | data})):
        if isinstance(seen, list):
            assert 0 < len(seen) <= 20
            json.dumps([[e.field, e.error] for e in seen], ensure_ascii=False).encode()
        else:
            json.dumps(seen.fields, allow_nan=False, ensure_ascii=False).encode()
