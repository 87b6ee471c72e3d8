"""What the plan promises: windows, labels, errors by field, and purity."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop_features import FeaturePlan, FeaturesRejected, State, compile_features
from everloop_features.numbers import finite
from everloop_features.numbers import numbers as numbers_among
from everloop_features.windows import shifted, summary
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
SCHEMA = {"x": {"type": "number", "missing": None}, "side": {"type": "string", "missing": None}}
numbers = st.one_of(st.none(), st.floats(-1e6, 1e6))


def plan(*features: dict[str, Any], schema: dict[str, Any] | None = None) -> FeaturePlan:
    body = {"loop": "l", "task": "binary", "schema": schema or SCHEMA, "features": list(features)}
    return compile_features(LoopSpec.model_validate(body))


def play(
    of: FeaturePlan, values: list[Any], step_s: float = 1, state: State | None = None
) -> tuple[State, list[Fields]]:
    """The final state, and the features of each of the values, `step_s` seconds apart."""
    state, vectors = state if state is not None else of.empty(), []
    for i, x in enumerate(values):
        state, features = of.apply(state, {"x": x}, START + timedelta(seconds=i * step_s))
        vectors.append(features)
    return state, vectors


@given(st.lists(numbers, min_size=1, max_size=30), st.integers(1, 8))
def test_windows_over_events_equal_those_over_a_list(values: list[float | None], length: int) -> None:
    over = f"{length} events"
    functions = ("mean", "sum", "min", "max", "std", "count", "last")
    of = plan(*({"name": f, f: "x", "over": over} for f in functions))

    _, vectors = play(of, values)

    window = [v for v in values[-length:] if v is not None]
    assert vectors[-1]["count"] == len(window)
    assert vectors[-1]["last"] == (window[-1] if window else None)
    if not window:
        assert all(vectors[-1][f] is None for f in ("mean", "sum", "min", "max", "std"))
        return
    assert (vectors[-1]["min"], vectors[-1]["max"]) == (min(window), max(window))
    assert vectors[-1]["sum"] == math.fsum(window)
    assert vectors[-1]["mean"] == pytest.approx(statistics.fmean(window), abs=1e-6)
    assert vectors[-1]["std"] == pytest.approx(statistics.pstdev(window), abs=1e-3)


@given(st.lists(numbers, min_size=1, max_size=20), st.integers(1, 5))
def test_lag_and_diff_look_back_by_events(values: list[float | None], by: int) -> None:
    of = plan(
        {"name": "lag", "lag": "x", "over": f"{by} events"}, {"name": "diff", "diff": "x", "over": f"{by} events"}
    )

    _, vectors = play(of, values)

    before = values[-1 - by] if len(values) > by else None
    assert vectors[-1]["lag"] == before
    assert vectors[-1]["diff"] == (None if before is None or values[-1] is None else values[-1] - before)


def test_a_window_of_time_holds_what_is_younger_than_its_length() -> None:
    of = plan({"name": "n", "count": "x", "over": "10s"}, {"name": "top", "max": "x", "over": "10s"})

    _, vectors = play(of, [9.0, 1.0, 2.0, 3.0], step_s=5)

    assert [v["n"] for v in vectors] == [1, 2, 2, 2]
    assert vectors[-1]["top"] == 3.0


def test_an_event_out_of_order_sees_the_window_of_its_own_time() -> None:
    of = plan({"name": "sum", "sum": "x", "over": "10s"})
    state, _ = of.apply(of.empty(), {"x": 1.0}, START)
    state, _ = of.apply(state, {"x": 10.0}, START + timedelta(seconds=8))

    state, late = of.apply(state, {"x": 100.0}, START + timedelta(seconds=4))
    _, after = of.apply(state, {"x": 1000.0}, START + timedelta(seconds=11))

    assert late["sum"] == 101.0
    assert after["sum"] == 1110.0


@pytest.mark.parametrize("stray", [timedelta(days=27_000), timedelta(hours=2), timedelta(days=-9_000)])
def test_one_event_with_a_wrong_time_empties_no_window(stray: timedelta) -> None:
    of = plan({"name": "n", "count": "x", "over": "1h"})
    times = [START + timedelta(seconds=i) for i in range(7)]
    times[3] += stray

    state, counts = of.empty(), []
    for time in times:
        state, vector = of.apply(state, {"x": 1.0}, time, received=times[0])
        counts.append(vector["n"])

    assert counts[:3] + counts[4:] == [1, 2, 3, 4, 5, 6]


def test_an_entity_of_two_clocks_sees_the_window_of_each() -> None:
    of = plan({"name": "n", "count": "x", "over": "1m"})
    ahead, state, counts = timedelta(minutes=5), of.empty(), []
    for i in range(8):
        now = START + timedelta(seconds=i)
        state, vector = of.apply(state, {"x": 1.0}, now + ahead if i % 2 else now, received=now)
        counts.append(vector["n"])

    assert counts == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_window_of_time_drops_what_no_later_one_needs() -> None:
    of = plan({"name": "n", "count": "x", "over": "10s"})

    state, _ = play(of, [1.0] * 50, step_s=5)

    assert len(state["span"]["x"][0]) <= 4


def test_a_window_of_time_is_bounded_in_points() -> None:
    of = plan({"name": "n", "count": "x", "over": "1d"})
    state: State = {"span": {"x": [list(range(10_000)), [1.0] * 10_000]}}

    state, vector = of.apply(state, {"x": 2.0}, datetime.fromtimestamp(11, UTC))

    assert len(state["span"]["x"][0]) == 10_000
    assert vector["n"] == 10_001


def test_the_last_value_outlives_missing_ones() -> None:
    of = plan({"name": "known", "last": "x"})

    _, vectors = play(of, [None, 4.0, None, None])

    assert [v["known"] for v in vectors] == [None, 4.0, 4.0, 4.0]


def test_the_last_label_is_that_of_the_newest_observation() -> None:
    of = plan({"name": "label", "lag": "label"})
    state = of.with_label(of.empty(), True, START + timedelta(seconds=5))

    state = of.with_label(state, False, START)
    _, vector = of.apply(state, {}, START + timedelta(seconds=9))

    assert vector == {"label": True}


@given(st.lists(st.one_of(st.none(), st.floats(), st.integers()), max_size=10))
def test_features_are_finite_or_missing_whatever_the_input(values: list[Any]) -> None:
    of = plan(
        {"fields": "all"},
        *({"name": f, f: "x", "over": "3 events"} for f in ("mean", "sum", "std", "diff", "max")),
        {"name": "far", "sum": "x", "over": "1d"},
        {"name": "extreme", "expr": "exp(x) / (x - mean) ** 3 + log(x) * 1e308"},
    )

    state, vectors = play(of, values)

    json.dumps([state, vectors], allow_nan=False)
    assert all(v is None or math.isfinite(float(v)) for vector in vectors for v in vector.values())


@given(st.lists(numbers, max_size=8))
def test_a_state_survives_json_and_is_never_changed_in_place(values: list[float | None]) -> None:
    of = plan(
        {"name": "m", "mean": "x", "over": "3 events"},
        {"name": "s", "sum": "x", "over": "1h"},
        {"name": "l", "last": "x"},
    )
    state, _ = play(of, values)
    before = json.dumps(state)

    once = of.apply(state, {"x": 7.0}, START + timedelta(hours=1))
    again = of.apply(json.loads(before), {"x": 7.0}, START + timedelta(hours=1))

    assert json.dumps(once) == json.dumps(again)
    assert json.dumps(state) == before


def test_a_new_revision_keeps_the_state_that_it_uses_and_drops_the_rest() -> None:
    old = plan({"name": "m", "mean": "x", "over": "3 events"}, {"name": "last_side", "last": "side"})
    new = plan({"name": "m", "mean": "x", "over": "2 events"}, {"name": "s", "sum": "x", "over": "1h"})
    state, _ = play(old, [1.0, 2.0, 3.0])

    state, vector = new.apply(state, {"x": 5.0}, START + timedelta(seconds=9))

    assert vector == {"m": 4.0, "s": 5.0}
    assert set(state) == {"ring", "span"}


def test_a_field_whose_type_changed_does_not_break_its_window() -> None:
    of = plan({"name": "m", "mean": "x", "over": "3 events"})

    _, vector = of.apply({"ring": {"x": ["left", "over"]}}, {"x": 5.0}, START)

    assert vector == {"m": 5.0}


@pytest.mark.parametrize(
    ("features", "field", "message"),
    [
        ([{"fields": ["x", "y"]}], "features.0.fields", "'y' is no field"),
        ([{"fields": ["x", "x"]}], "features.0.fields", "its own name"),
        ([{"fields": "all"}, {"name": "x", "expr": "1"}], "features.1.name", "field of the schema"),
        ([{"name": "m", "mean": "z", "over": "3 events"}], "features.0.mean", "'z' is no field"),
        ([{"name": "m", "mean": "side", "over": "3 events"}], "features.0.mean", "is a string"),
        ([{"name": "d", "diff": "x", "over": "1h"}], "features.0.over", "counts events"),
        ([{"name": "m", "mean": "x", "over": "20000 events"}], "features.0.over", "10,000"),
        ([{"name": "e", "expr": "later + 1"}, {"name": "later", "expr": "1"}], "features.0.expr", "no earlier feature"),
        ([{"name": "e", "expr": "side + 1"}], "features.0.expr", "is a string"),
        ([{"name": "e", "expr": "__import__('os').system('x')"}], "features.0.expr", "not allowed"),
    ],
)
def test_an_invalid_feature_is_refused_by_field(features: list[dict[str, Any]], field: str, message: str) -> None:
    with pytest.raises(ValueError, match="features") as refused:
        plan(*features)

    assert isinstance(refused.value, FeaturesRejected)
    assert any(e.field == field and message in e.error for e in refused.value.errors), refused.value.errors


def test_counts_and_lags_take_any_field() -> None:
    of = plan({"name": "n", "count": "side", "over": "3 events"}, {"name": "was", "lag": "side"})

    state, _ = of.apply(of.empty(), {"side": "buy"}, START)
    _, vector = of.apply(state, {"side": None}, START)

    assert vector == {"n": 1, "was": "buy"}


HUGE = 1.7976931348623157e308


@pytest.mark.parametrize(
    ("function", "values", "right"),
    [
        ("mean", [HUGE, HUGE, HUGE], HUGE),
        ("mean", [HUGE, -HUGE], 0.0),
        ("std", [HUGE, -HUGE], HUGE),
        ("std", [1e200, 3e200], 1e200),
        ("sum", [HUGE, HUGE], None),
        ("min", [HUGE, -HUGE], -HUGE),
        ("max", [HUGE, 2**63 - 1], HUGE),
        ("mean", [2**63 - 1, 2**63 - 1], 2.0**63),
        ("count", [HUGE, HUGE], 2),
    ],
)
def test_windows_over_the_largest_numbers_are_right_or_missing(
    function: str, values: list[float], right: float | None
) -> None:
    got = summary(function, values)

    assert got == (right if right is None else pytest.approx(right))


REFERENCE: dict[str, Callable[[list[int | float]], int | float]] = {
    "mean": lambda known: math.fsum(known) / len(known),
    "sum": math.fsum,
    "min": min,
    "max": max,
    "std": lambda known: math.sqrt(math.fsum((v - math.fsum(known) / len(known)) ** 2 for v in known) / len(known)),
}
stored = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(-1e100, 1e100), st.sampled_from(["left", "over"])
)


@given(st.lists(stored, max_size=12), st.sampled_from([*REFERENCE]))
def test_a_window_of_any_stored_values_equals_the_function_of_its_finite_numbers(
    values: list[Any], function: str
) -> None:
    known = numbers_among(values)

    got = summary(function, values)

    right = finite(REFERENCE[function](known)) if known else None
    assert (got, type(got)) == (right, type(right))


def test_a_difference_that_no_double_holds_is_missing() -> None:
    assert shifted("diff", [-HUGE, HUGE], 1) is None
    assert shifted("lag", [-HUGE, HUGE], 1) == -HUGE
