"""The columns of a table: typed by the loop's schema, growing with it, and null where a value does not fit."""

from __future__ import annotations

from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from tests.builders.events import outcome_observed, prediction_made

from everloop_archive.arrays import ArchivedRecord, record_batch
from everloop_archive.columns import FieldTypes, file_schema, grown_schema
from everloop_archive.delta_schema import schema_of, schema_text
from everloop_schemas.envelope import Scalar
from everloop_schemas.serving import Shadow, WindowsUsed
from everloop_shared.messaging.routes import Position

TYPES = FieldTypes("boolean", {"price": "number", "plan": "string", "calls": "integer"})


def records(*events: Any) -> list[ArchivedRecord]:
    return [
        ArchivedRecord(Position(event.topic.name, 1, offset, 1_000 + offset, 5), event, event.encode(), 1)
        for offset, event in enumerate(events)
    ]


def rows(schema: Any, types: FieldTypes, *events: Any) -> list[dict[str, Any]]:
    kind = "outcomes" if "outcome" in events[0].topic.name else "predictions"
    batch = record_batch(file_schema(schema), kind, types, records(*events))  # type: ignore[arg-type]
    return list(batch.to_pylist(maps_as_pydicts="strict"))


def test_an_outcome_is_a_row_with_every_field_and_the_record_itself() -> None:
    shadows = [
        Shadow(version="b@1", prediction=False, probabilities={"true": 0.2}),
        Shadow(version="c@1", prediction=True),
    ]
    event = outcome_observed(
        "p1", True, features={"price": 2, "plan": "a", "calls": 3}, probabilities={"true": 0.75}, shadows=shadows
    )

    [row] = rows(grown_schema(None, "outcomes", TYPES), TYPES, event)

    assert row["features"] == {"price": 2.0, "plan": "a", "calls": 3}
    assert (row["offset"], row["partition"], row["life"], row["revision"]) == (0, 1, 1, 1)
    assert row["time"] == event.data.predicted
    assert row["appended"].timestamp() == 1.0
    assert (row["label"], row["prediction"], row["rejected"]) == (True, True, None)
    assert row["probabilities"] == {"true": 0.75}
    assert row["shadows"] == [
        {"version": "b@1", "prediction": False, "probabilities": {"true": 0.2}},
        {"version": "c@1", "prediction": True, "probabilities": None},
    ]
    assert row["record"].encode() == event.encode()


def test_a_prediction_is_a_row_too() -> None:
    event = prediction_made("p1", 0.5, windows=WindowsUsed(applied=3, source="stream"))
    types = FieldTypes("number", {"price": "number"})

    [row] = rows(grown_schema(None, "predictions", types), types, event)

    assert (row["prediction_id"], row["prediction"], row["time"]) == ("p1", 0.5, event.data.observed)
    assert row["windows"] == {"applied": 3, "source": "stream", "previous": None}
    assert row["probabilities"] is None


def test_a_value_that_does_not_fit_its_column_is_null_and_all_others_stay() -> None:
    features = [
        {"price": "much", "plan": 7, "calls": 2.5},
        {"price": 1, "plan": None, "calls": 2.0},
        {"price": True, "plan": "a", "calls": 10**30},
    ]
    labels: list[Scalar] = ["yes", True, 1]
    events = [
        outcome_observed(f"p{i}", label, features=f) for i, (f, label) in enumerate(zip(features, labels, strict=True))
    ]

    found = rows(grown_schema(None, "outcomes", TYPES), TYPES, *events)

    assert [row["features"] for row in found] == [
        {"price": None, "plan": "7", "calls": None},
        {"price": 1.0, "plan": None, "calls": 2},
        {"price": 1.0, "plan": "a", "calls": None},
    ]
    assert [row["label"] for row in found] == [None, True, None]
    assert '"much"' in found[0]["record"]


def test_a_schema_grows_and_a_field_with_a_new_type_has_a_column_for_each() -> None:
    first = grown_schema(None, "outcomes", TYPES)
    later = FieldTypes("string", {"price": "string", "region": "string", "calls": "integer"})

    schema = grown_schema(first, "outcomes", later)

    old = outcome_observed("p1", True, features={"price": 1.5, "plan": "a", "calls": 1})
    new = outcome_observed("p2", "yes", features={"price": "much", "region": "north", "calls": 1})
    [old_row, new_row] = rows(schema, later, old, new)
    assert new_row["features"] == {
        "price": None, "plan": None, "calls": 1, "price__string": "much", "region": "north"
    }  # fmt: skip
    assert (new_row["label"], new_row["label__string"], new_row["shadows"]) == (None, "yes", [])
    assert old_row["features"]["price__string"] == "1.5"
    assert grown_schema(schema, "outcomes", TYPES).equals(schema, check_metadata=True)
    assert [f.name for f in first] == [f.name for f in schema if f.name in first.names]


def test_names_that_differ_in_case_alone_become_different_columns() -> None:
    types = FieldTypes("boolean", {"price": "number", "Price": "number"})
    schema = grown_schema(None, "outcomes", types)

    [row] = rows(schema, types, outcome_observed("p1", features={"price": 1.0, "Price": 2.0}))

    assert row["features"] == {"price": 1.0, "Price__number": 2.0}


def test_the_types_of_a_loop_that_nobody_knows_follow_from_its_values() -> None:
    types = FieldTypes.seen([True, "yes"], [{"a": 1, "b": True}, {"a": 2.5, "b": None, "no name": 1}])

    assert types == FieldTypes("string", {"a": "number", "b": "boolean"})


def test_a_schema_survives_the_log() -> None:
    schema = grown_schema(
        grown_schema(None, "predictions", TYPES), "predictions", FieldTypes("integer", {"x": "number"})
    )

    assert schema_of(schema_text(schema)).equals(schema, check_metadata=True)


def test_a_table_without_features_gets_them_later() -> None:
    schema = grown_schema(None, "outcomes", FieldTypes())

    assert "features" not in schema.names
    assert grown_schema(schema, "outcomes", TYPES).field("features").type.num_fields == 3
    assert rows(schema, FieldTypes(), outcome_observed("p1", "a"))[0]["label"] == "a"
    assert isinstance(file_schema(schema), pa.Schema)
