"""What is said of features under another spec is what the new plan then does with the state of the old one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop_features import State, compile_features
from everloop_features.feature_changes import FeatureChange, compare_features
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
SCHEMA = {"x": {"type": "number", "missing": None}, "y": {"type": "number", "missing": None}}
lengths = st.one_of(st.integers(1, 8).map("{} events".format), st.integers(1, 90).map("{}s".format))
names = st.sampled_from("abcde")
fields = st.sampled_from("xy")
windows = st.builds(
    lambda f, x, over: {f: x, "over": over}, st.sampled_from(("mean", "sum", "max", "count")), fields, lengths
)
shifts = st.builds(
    lambda f, x, n: {f: x, "over": f"{n} events"}, st.sampled_from(("lag", "diff")), fields, st.integers(1, 6)
)
latest = fields.map(lambda x: {"last": x})
plans = st.dictionaries(names, st.one_of(windows, shifts, latest, st.just({"lag": "label"})), max_size=4)
observations = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(-50, 50)), st.integers(0, 30)), min_size=1, max_size=30
)


def spec(features: dict[str, dict[str, Any]], schema: dict[str, Any] | None = None) -> LoopSpec:
    """A loop with the field x as it is, and these features."""
    listed = [{"fields": ["x"]}, *({"name": name, **of} for name, of in features.items())]
    return LoopSpec.model_validate({"loop": "l", "task": "binary", "schema": schema or SCHEMA, "features": listed})


def play(
    of: LoopSpec, rows: list[tuple[int | None, int]], state: State, at: datetime
) -> tuple[State, Fields, datetime]:
    """The state and the last vector after observations with a label each, seconds apart."""
    plan = compile_features(of)
    vector: Fields = {}
    for value, seconds in rows:
        at += timedelta(seconds=seconds)
        state, vector = plan.apply(state, {"x": value, "y": seconds}, at)
        state = plan.with_label(state, bool(seconds % 2), at)
    return state, vector, at


def by_name(before: LoopSpec, after: LoopSpec) -> dict[str, FeatureChange]:
    """The changes by feature."""
    return {each.feature: each for each in compare_features(before, after)}


@given(plans, plans, observations)
def test_kept_values_are_those_of_a_loop_that_had_the_new_spec_all_along_and_empty_ones_those_of_a_new_entity(
    old: dict[str, Any], new: dict[str, Any], rows: list[tuple[int | None, int]]
) -> None:
    before, after = spec(old), spec(new)
    seen, _, at = play(before, rows, {}, START)

    said = by_name(before, after)
    always, _, _ = play(after, rows, {}, START)
    [now, as_always, as_new] = [play(after, [(7, 3)], state, at)[1] for state in (seen, always, {})]

    for name, change in said.items():
        if change.state == "kept":
            assert now[name] == as_always[name], change
        elif change.state == "starts_empty":
            assert now[name] == as_new[name], change
    assert {name for name, change in said.items() if change.state == "ends"} == old.keys() - new.keys()


@pytest.mark.parametrize(
    ("old", "new", "state", "detail"),
    [
        ({"mean": "x", "over": "12 events"}, {"mean": "x", "over": "6 events"}, "kept", ""),
        ({"mean": "x", "over": "6 events"}, {"mean": "x", "over": "12 events"}, "fills_up", "6 of 12 events are kept"),
        ({"lag": "x", "over": "2 events"}, {"lag": "x", "over": "3 events"}, "fills_up", "3 of 4 events are kept"),
        ({"mean": "x", "over": "1d"}, {"mean": "x", "over": "7d"}, "fills_up", "1 d of 7 d are kept"),
        ({"mean": "x", "over": "1d"}, {"mean": "x", "over": "12 events"}, "starts_empty", ""),
        ({"mean": "x", "over": "5 events"}, {"mean": "y", "over": "5 events"}, "starts_empty", ""),
        ({"last": "x"}, {"last": "x"}, "kept", ""),
        ({"lag": "label"}, {"lag": "label"}, "kept", ""),
        ({"last": "x"}, {"lag": "label"}, "starts_empty", "until an entity's next label"),
        ({"expr": "x - y"}, {"expr": "x + y"}, "changed", "from each entity's next observation on"),
        ({"expr": "x - y"}, {"expr": "x - y"}, "kept", ""),
    ],
)
def test_a_window_keeps_what_is_stored_for_it(
    old: dict[str, Any], new: dict[str, Any], state: str, detail: str
) -> None:
    said = by_name(spec({"a": old}), spec({"a": new}))["a"]

    assert (said.state, said.detail) == (state, detail)


def test_a_new_window_has_the_values_that_another_one_keeps() -> None:
    old = {"a": {"mean": "x", "over": "12 events"}}

    said = by_name(spec(old), spec({**old, "b": {"max": "x", "over": "10 events"}}))["b"]

    assert (said.before, said.after, said.state) == (None, "max of x over 10 events", "kept")


def test_values_of_another_type_are_told_as_long_as_they_can_be_in_a_window() -> None:
    window = {"a": {"last": "y", "over": "3 events"}}
    texts = {**SCHEMA, "y": {"type": "string", "missing": None}}

    said = by_name(spec(window), spec(window, texts))["a"]

    assert (said.state, said.detail) == ("kept", "with values of type number until they have passed")
