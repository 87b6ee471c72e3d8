"""The compiled decoder reads observations as the checks do, or leaves them to the checks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop_features.observation import Observation, check_observation
from everloop_features.observation_decoder import compile_decoder
from everloop_schemas.loop import LoopSpec
from everloop_shared import strict_json

SPEC = LoopSpec.model_validate(
    {
        "loop": "shop",
        "task": "binary",
        "schema": {
            "price": {"type": "number", "min": 0.5, "max": 100},
            "any": {"type": "number"},
            "pieces": {"type": "integer"},
            "few": {"type": "integer", "min": -2.5, "max": 7.5, "missing": None},
            "class": {"type": "boolean"},
            "country": {"type": "string", "enum": ["de", "fr"]},
            "size": {"type": "number", "enum": [1, 2.5], "missing": None},
            "note": {"type": "string", "missing": None},
        },
    }
)
DECODER = compile_decoder(SPEC)
GOOD: dict[str, Any] = {"price": 1.5, "any": -3, "pieces": 2, "class": True, "country": "de"}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.sampled_from([2**53, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**30]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["de", "fr", "", "x" * 1_000, "x" * 1_001, 'a":b', " a", "a\x07", "ü😀"]),
    st.text(max_size=5),
    st.just([1]),
    st.just({"a": 1}),
)
near = st.fixed_dictionaries(
    {
        "price": st.one_of(st.floats(0.4, 101), st.integers(0, 101), scalars),
        "any": st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), scalars),
        "pieces": st.one_of(st.integers(-(2**63) - 2, 2**63 + 2), scalars),
        "class": st.one_of(st.booleans(), scalars),
        "country": st.one_of(st.sampled_from(["de", "fr"]), scalars),
    },
    optional={
        "few": st.one_of(st.integers(-4, 9), scalars),
        "size": st.one_of(st.sampled_from([1, 1.0, 2.5, 2]), scalars),
        "note": st.one_of(st.text(max_size=5), scalars),
        "other": scalars,
    },
)
good = st.fixed_dictionaries(
    {
        "price": st.floats(0.5, 100),
        "any": st.one_of(st.integers(-100, 100), st.floats(-1e300, 1e300)),
        "pieces": st.integers(-(2**62), 2**62),
        "class": st.booleans(),
        "country": st.sampled_from(["de", "fr"]),
    },
    optional={"few": st.one_of(st.none(), st.integers(-2, 7)), "size": st.sampled_from([None, 1, 1.0, 2.5])},
)
names = st.one_of(st.none(), st.sampled_from(["a", "", " a", "a b", "\ud800", "x" * 256, "x" * 257]), st.integers(0, 1))
times = st.sampled_from([None, "2024-05-01T12:00:00+02:00", "2024-05-01T12:00:00", "soon", "", 7])
bodies = st.fixed_dictionaries(
    {"data": st.one_of(good, near)}, optional={"id": names, "entity": names, "time": times, "more": st.just(1)}
)


def checked(text: bytes) -> Any:
    """What the checks say; None where the text is no strict JSON."""
    try:
        return check_observation(SPEC, strict_json.read(text))
    except strict_json.NotJson:
        return None


def same(one: Any, other: Any) -> bool:
    """Whether two observations are equal, types and order of their fields included."""
    return repr(one) == repr(other)


@given(bodies, st.sampled_from([None, 1]))
@settings(max_examples=400, deadline=None)
def test_what_is_decoded_is_what_the_checks_accept(body: Any, indent: int | None) -> None:
    text = json.dumps(body, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")

    decoded, accepted = DECODER.decode(text), checked(text)

    assert decoded is None or same(decoded, accepted)


@given(good, st.sampled_from([{}, {"id": "a"}, {"entity": "b", "time": "2024-05-01T12:00:00Z"}, {"id": None}]))
@settings(max_examples=100, deadline=None)
def test_what_fits_is_decoded(data: Any, names: Any) -> None:
    text = json.dumps(names | {"data": data}).encode()

    decoded = DECODER.decode(text)

    assert isinstance(decoded, Observation)
    assert same(decoded, checked(text))
    assert same(DECODER.decode_list(b"[" + text + b"," + text + b"]", 2), [decoded, decoded])
    assert same(DECODER.decode_lines(text + b"\n\n" + text, 2), [decoded, decoded])


@given(good, st.sampled_from([{}, {"id": "a"}, {"entity": "b", "time": "2024-05-01T12:00:00Z"}]))
@settings(max_examples=50, deadline=None)
def test_columns_of_values_that_were_read_already_are_converted_alike(data: Any, names: Any) -> None:
    columns = {name: (value, value) for name, value in data.items()}

    converted = DECODER.convert_columns(columns, 2, **{name: [value] * 2 for name, value in names.items()})

    assert converted is not None
    assert same(converted, [check_observation(SPEC, names | {"data": data})] * 2)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_columns_with_a_number_that_is_not_finite_are_left_to_the_checks(number: float) -> None:
    columns: dict[str, list[Any]] = {"any": [1.0, number], "pieces": [1, 1], "class": [True] * 2, "country": ["de"] * 2}

    assert DECODER.convert_columns(columns | {"price": [1.0, 2.0]}, 2) is None


@pytest.mark.parametrize(
    "text",
    [
        b'{"data":{"price":1,"price":2,"any":1,"pieces":1,"class":true,"country":"de"}}',
        b'{"id":"a","id":"b","data":{"price":1,"any":1,"pieces":1,"class":true,"country":"de"}}',
        b'{"data":{"pr\\u0069ce":1,"price":1,"any":1,"pieces":1,"class":true,"country":"de"}}',
        b'{"data":{"note" : "x", "note" : "y","price":1,"any":1,"pieces":1,"class":true,"country":"de"}}',
        b'{"data":{"price":1,"any":1e999,"pieces":1,"class":true,"country":"de"}}',
        b'{"data":{"price":1,"any":NaN,"pieces":1,"class":true,"country":"de"}}',
        b'{"data":{"price":1,"any":1,"pieces":1.0,"class":true,"country":"de"}}',
        b'{"data":{"price":1,"any":1,"pieces":1,"class":true,"country":"de","note":"\xff"}}',
        b'{"data":{"price":1,"any":1,"pieces":1,"class":true,"country":"de"}} x',
        b'{"data":{"price":1,"any":1,"pieces":1,"class":true,"country":"de",}}',
        b'{"data":' * 10_000,
        b"",
    ],
)
def test_what_is_not_strict_json_or_repeats_a_key_is_left_to_the_checks(text: bytes) -> None:
    assert DECODER.decode(text) is None
    assert DECODER.decode_list(b"[" + text + b"]", 10) is None
    assert DECODER.decode_lines(text + b"\n", 10) is None


def test_lists_beyond_the_limit_and_empty_ones_are_left_to_the_checks() -> None:
    text = json.dumps({"data": GOOD}).encode()

    assert DECODER.decode_list(b"[" + b",".join([text] * 3) + b"]", 2) is None
    assert DECODER.decode_lines(b"\n".join([text] * 3), 2) is None
    assert DECODER.decode_list(b"[]", 2) is None
    assert DECODER.decode_lines(b"\n", 2) is None
