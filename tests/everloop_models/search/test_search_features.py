"""Features are proposed from the schema, computed as the feature service computes them, the most telling first."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from tests.builders.loops import loop_spec
from tests.everloop_models.search.searching import RATIO_SPEC, Labelled, ratio_stream, write_rows

from everloop_features.plan import State, compile_features
from everloop_models.search.candidates import candidates
from everloop_models.search.data import read
from everloop_models.search.feature_columns import FeatureComputation, added_column, with_feature
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop_parts import FeatureSpec


def names(features: list[FeatureSpec]) -> list[str | None]:
    return [feature.name for feature in features]


def test_the_ratio_that_a_stream_was_made_from_is_proposed_first(tmp_path: Path) -> None:
    found = candidates(write_rows(tmp_path, ratio_stream(2_000)), RATIO_SPEC, 4)

    assert found[0].name in ("a_per_b", "b_per_a")
    assert found[0].expr in ("a / b", "b / a")
    assert len(found) == 4


def test_a_difference_and_a_window_are_found_where_labels_come_from_them(tmp_path: Path) -> None:
    random = Random(3)
    walk: list[float] = [0.0]
    for _ in range(1_500):
        walk.append(0.9 * walk[-1] + random.gauss(0, 1))
    spec = loop_spec(task="regression", schema={"x": {"type": "number"}, "y": {"type": "number"}})
    over_time: list[Labelled] = [({"x": x, "y": random.random()}, x - walk[max(0, i - 5)]) for i, x in enumerate(walk)]
    of_fields: list[Labelled] = [({"x": x, "y": (y := 5 * random.random())}, x - y) for x in walk]

    assert candidates(write_rows(tmp_path, over_time, entities=1), spec, 1) == [
        FeatureSpec(name="x_diff_5", diff="x", over="5 events")
    ]
    assert names(candidates(write_rows(tmp_path, of_fields), spec, 1)) == ["x_less_y"]


def test_what_tells_the_same_as_another_is_not_proposed(tmp_path: Path) -> None:
    rows: list[Labelled] = [({**features, "b": 2.0}, label) for features, label in ratio_stream(500)]

    found = candidates(write_rows(tmp_path, rows, entities=1), RATIO_SPEC, 100)

    assert all(feature.field == "a" for feature in found), "a / 2, 2 / a and a - 2 order the rows as a does"


def test_only_numbers_that_rows_carry_as_they_are_take_part_and_free_names(tmp_path: Path) -> None:
    schema: dict[str, Any] = {name: {"type": "number"} for name in ("a", "b", "hidden", "if")} | {
        "c": {"type": "string"},
        "flag": {"type": "boolean"},
    }
    features: list[dict[str, Any]] = [
        {"fields": ["a", "b", "c", "flag", "if"]},
        {"name": "a_per_b", "expr": "a * b"},
        {"name": "mean_a", "mean": "a", "over": "5 events"},
    ]
    spec = loop_spec(schema=schema, features=features)
    rows: list[Labelled] = [({**f, "flag": True, "if": f["a"]}, label) for f, label in ratio_stream(300)]

    found = candidates(write_rows(tmp_path, rows), spec, 1000)

    assert found
    assert not {"a_per_b", "a_mean_5"} & set(names(found)), "the name is taken, the feature is there"
    assert not [one for one in found if {"hidden", "c", "flag", "if"} & set((one.expr or "").split())]
    assert candidates(tmp_path, loop_spec(schema={"c": {"type": "string"}}), 10) == []


def test_a_tried_feature_is_what_the_feature_service_would_compute(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(100), entities=3)
    feature = FeatureSpec(name="mean_a", mean="a", over="5 events")
    plan = compile_features(RATIO_SPEC.model_copy(update={"features": (feature,)}))
    states: dict[str, State] = {}
    expected: list[Scalar | None] = []
    for row in read(tmp_path):
        states[row.entity], computed = plan.apply(
            states.get(row.entity, plan.empty()), row.features, datetime(2026, 1, 1, tzinfo=UTC)
        )
        expected.append(computed["mean_a"])

    online = [row.features["mean_a"] for row in with_feature(read(tmp_path), RATIO_SPEC, feature)]
    column = added_column(read(tmp_path), 100, RATIO_SPEC, feature)

    assert online == expected
    assert column.number_names == ("mean_a",)
    assert [round(float(value), 4) for value in column.numbers[:, 0]] == [round(float(v or 0), 4) for v in expected]


def test_windows_are_kept_of_a_bounded_number_of_entities(tmp_path: Path) -> None:
    [first] = read(write_rows(tmp_path, [({"a": 1.0, "b": 1.0, "c": "x"}, True)]))
    computation = FeatureComputation(
        RATIO_SPEC, [FeatureSpec(name="count_a", count="a", over="5 events")], max_entities=100
    )

    counts = [computation.next(first)["count_a"]]
    for n in range(100):
        first.entity = f"other-{n}"
        computation.next(first)
    first.entity = "e0"
    counts.append(computation.next(first)["count_a"])

    assert counts == [1, 1]
    assert len(computation.entities) == 100
