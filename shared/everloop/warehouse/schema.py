"""The columns of an archive's table as BigQuery has them, and its files in that form."""

from __future__ import annotations

from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from everloop_archive.columns import file_schema

_TYPES = {
    pa.bool_(): "BOOL",
    pa.int32(): "INT64",
    pa.int64(): "INT64",
    pa.float64(): "FLOAT64",
    pa.string(): "STRING",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP",
}


def columns(schema: Any) -> list[Any]:
    """The columns of the table in BigQuery; a map is a repeated record of key and value."""
    return [_column(field.name, field.type) for field in file_schema(schema)]


def grown(there: list[Any], wanted: list[Any]) -> list[Any]:
    """The columns that a table has, with those that it lacks, also within records; the same where it lacks none."""
    from google.cloud.bigquery import SchemaField

    missing = {column.name: column for column in wanted}
    found: list[Any] = []
    for column in there:
        other = missing.pop(column.name, None)
        if other is None or not other.fields:
            found.append(column)
            continue
        within = grown(list(column.fields), list(other.fields))
        found.append(
            column
            if within == list(column.fields)
            else SchemaField(column.name, "RECORD", mode=column.mode, fields=within)
        )
    return [*found, *missing.values()]


def without_maps(schema: Any) -> Any:
    """The columns of the files with lists of key and value in place of maps."""
    return pa.schema([pa.field(f.name, _without_maps(f.type)) for f in file_schema(schema)])


def converted(batch: Any, schema: Any) -> Any:
    """A batch of a file in the columns of `schema`, that `without_maps` gave; columns that it lacks are null."""
    names = batch.schema.names
    arrays = [
        _cast(batch.column(field.name), field.type) if field.name in names else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.record_batch(arrays, schema=schema)


def _column(name: str, kind: Any) -> Any:
    from google.cloud.bigquery import SchemaField

    if pa.types.is_map(kind):
        pair = [SchemaField("key", "STRING"), _column("value", kind.item_type)]
        return SchemaField(name, "RECORD", mode="REPEATED", fields=pair)
    if pa.types.is_list(kind):
        inner = _column(name, kind.value_type)
        return SchemaField(name, inner.field_type, mode="REPEATED", fields=inner.fields)
    if pa.types.is_struct(kind):
        return SchemaField(name, "RECORD", fields=[_column(field.name, field.type) for field in kind])
    return SchemaField(name, _TYPES[kind])


def _without_maps(kind: Any) -> Any:
    if pa.types.is_map(kind):
        return pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
    if pa.types.is_list(kind):
        return pa.list_(_without_maps(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _without_maps(field.type)) for field in kind])
    return kind


def _cast(array: Any, kind: Any) -> Any:
    """An array in a type of `_without_maps`; fields that a record lacks are null."""
    if array.type == kind:
        return array
    if pa.types.is_map(array.type):
        pairs = pa.StructArray.from_arrays([array.keys, array.items], names=["key", "value"])
        return pa.ListArray.from_arrays(_offsets(array), pairs).cast(kind)
    if pa.types.is_list(array.type):
        return pa.ListArray.from_arrays(_offsets(array), _cast(array.values, kind.value_type))
    if pa.types.is_struct(array.type):
        there = {field.name: array.field(n) for n, field in enumerate(array.type)}
        arrays = [_cast(there[f.name], f.type) if f.name in there else pa.nulls(len(array), f.type) for f in kind]
        return pa.StructArray.from_arrays(arrays, fields=list(kind), mask=array.is_null())
    return array.cast(kind)


def _offsets(array: Any) -> Any:
    """The offsets of a list or map, null where it is."""
    if not array.null_count:
        return array.offsets
    valid = pa.concat_arrays([array.is_valid(), pa.array([True])])
    return pc.if_else(valid, array.offsets, pa.scalar(None, pa.int32()))
