"""The archive's columns in BigQuery: nested, growing, and maps as repeated records."""

from __future__ import annotations

from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from everloop.warehouse.schema import columns, converted, grown, without_maps
from everloop_archive.columns import FieldTypes, file_schema, grown_schema

SCHEMA = grown_schema(None, "outcomes", FieldTypes("boolean", {"price": "number"}))


def by_name(found: list[Any]) -> dict[str, Any]:
    return {column.name: column for column in found}


def test_features_are_a_record_and_probabilities_repeated_pairs() -> None:
    found = by_name(columns(SCHEMA))

    assert [(f.name, f.field_type) for f in found["features"].fields] == [("price", "FLOAT64")]
    assert (found["probabilities"].mode, [f.name for f in found["probabilities"].fields]) == (
        "REPEATED",
        ["key", "value"],
    )
    assert found["shadows"].mode == "REPEATED"
    assert by_name(list(found["shadows"].fields))["probabilities"].mode == "REPEATED"
    assert found["time"].field_type == "TIMESTAMP"
    assert "day" not in found


def test_a_table_grows_by_columns_and_by_fields_of_records_and_keeps_its_order() -> None:
    there = columns(SCHEMA)
    wanted = columns(grown_schema(SCHEMA, "outcomes", FieldTypes("string", {"price": "number", "plan": "string"})))

    found = grown(there, wanted)

    assert [column.name for column in found][: len(there)] == [column.name for column in there]
    assert [f.name for f in by_name(found)["features"].fields] == ["price", "plan"]
    assert "label__string" in by_name(found)
    assert grown(found, wanted) == found


def test_rows_are_converted_with_their_nulls() -> None:
    schema = file_schema(SCHEMA)
    row = {
        "offset": 7,
        "features": {"price": 1.5},
        "probabilities": [("true", 0.25)],
        "shadows": [{"version": "b@1", "prediction": True, "probabilities": [("true", 0.5)]}],
    }
    batch = pa.RecordBatch.from_pylist([{"offset": 6}, row, {"offset": 8}], schema=schema).slice(1)
    wanted = without_maps(
        grown_schema(SCHEMA, "outcomes", FieldTypes("boolean", {"price": "number", "plan": "string"}))
    )

    first, second = converted(batch, wanted).to_pylist()

    assert (first["offset"], first["features"]) == (7, {"price": 1.5, "plan": None})
    assert first["probabilities"] == [{"key": "true", "value": 0.25}]
    assert first["shadows"][0]["probabilities"] == [{"key": "true", "value": 0.5}]
    assert (second["features"], second["probabilities"], second["shadows"]) == (None, None, None)
