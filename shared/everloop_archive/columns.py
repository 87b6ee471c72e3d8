"""The columns of the archive's tables: the fields of the event, typed by the loop's schema, and the record as it is.

A table's columns only grow. A field whose type has changed since has a column for each type; which columns are of one
field is written in their metadata. A value that fits none of them is null, and is in `record` all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa  # type: ignore[import-untyped]

from everloop_archive.layout import DAY, Kind
from everloop_learning.data_set_columns import ColumnType, declared_types
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.names import FIELD_NAME

FIELD = b"everloop.field"
"""The metadata of a typed column: the name of the field that it holds values of."""
TIME = pa.timestamp("us", tz="UTC")
PROBABILITIES = pa.map_(pa.string(), pa.float64())
ARROW: dict[ColumnType, Any] = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "string": pa.string(),
}
_SEEN: dict[type, ColumnType] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_FIELD_NAME = re.compile(FIELD_NAME)
_PLACE = {"offset": pa.int64(), "partition": pa.int32(), "life": pa.int64(), "revision": pa.int64()}
_EVENT = {"time": TIME, "appended": TIME, "id": pa.string(), "prediction_id": pa.string(), "entity": pa.string()}
_VERSION = {"version": pa.string(), "role": pa.string(), "propensity": pa.float64()}
_LABEL = {
    "correction": pa.int64(),
    "kind": pa.string(),
    "source": pa.string(),
    "disputed": pa.bool_(),
    "labelled": TIME,
}
_ANSWER = {"latency_ms": pa.float64(), "door": pa.string(), "fingerprint": pa.string()}
WINDOWS = pa.struct({"applied": pa.int64(), "source": pa.string(), "previous": pa.string()})
PERSONAL = pa.field("personal", pa.string())
"""The sealed values of a record, in tables of loops that have had personal fields."""
LABELS: dict[Kind, tuple[str, ...]] = {
    "outcomes": ("prediction", "label", "rejected"),
    "predictions": ("prediction",),
}
"""The columns that have the type of the loop's labels."""


@dataclass(frozen=True)
class FieldTypes:
    """The types of a loop's labels and features; `personal` where records may have sealed values."""

    label: ColumnType = "string"
    features: Mapping[str, ColumnType] = field(default_factory=dict)
    personal: bool = False

    @classmethod
    def of(cls, spec: LoopSpec) -> Self:
        """As the loop's spec says; an expression of numbers is a number."""
        names, declared = declared_types(spec)
        kinds = [kind for kind in _SEEN.values() if kind == spec.label_type]
        features = {name: (declared[name] or ("number",))[0] for name in names}
        return cls(kinds[0], features, bool(spec.personal_fields))

    @classmethod
    def seen(
        cls, labels: Iterable[Scalar], features: Iterable[Mapping[str, Scalar | None]], *, personal: bool = False
    ) -> Self:
        """As the values are, of a loop whose spec nobody knows any more: the widest of each field."""
        order = list(_SEEN.values())
        widest: dict[str, ColumnType] = {}
        for values in features:
            for name, value in values.items():
                if value is not None and _FIELD_NAME.fullmatch(name):
                    widest[name] = max(widest.get(name, "boolean"), _SEEN[type(value)], key=order.index)
        kinds: Iterable[ColumnType] = (_SEEN[type(label)] for label in labels)
        return cls(max(kinds, key=order.index, default="string"), widest, personal)


def grown_schema(schema: Any, kind: Kind, types: FieldTypes) -> Any:
    """The schema of a table, None where it has none yet, with the columns that these types need; the same if none."""
    fields = list(_first_schema(kind, types) if schema is None else schema)
    for name in LABELS[kind]:
        _add_typed(fields, name, types.label)
    shadows = [f.name for f in fields].index("shadows")
    shadow = list(fields[shadows].type.value_type)
    _add_typed(shadow, "prediction", types.label)
    fields[shadows] = pa.field("shadows", pa.list_(pa.struct(shadow)))
    if types.features:
        _add_features(fields, types.features)
    if types.personal and all(f.name != PERSONAL.name for f in fields):
        fields.append(PERSONAL)
    return pa.schema(fields)


def file_schema(schema: Any) -> Any:
    """The columns of a table that its files have: the day is in their path."""
    return pa.schema([f for f in schema if f.name != DAY])


def field_of(column: Any) -> str:
    """The name of the field that a column holds values of."""
    return str((column.metadata or {}).get(FIELD, column.name.encode()), "utf-8")


def _first_schema(kind: Kind, types: FieldTypes) -> Any:
    labels = {name: ARROW[types.label] for name in LABELS[kind]}
    own = {**_LABEL, **_VERSION} if kind == "outcomes" else {**_VERSION, **_ANSWER}
    columns = [pa.field(DAY, pa.date32())]
    columns += [pa.field(name, type_) for name, type_ in {**_PLACE, **_EVENT}.items()]
    columns += [_typed(name, name, type_) for name, type_ in labels.items()]
    columns += [pa.field(name, type_) for name, type_ in own.items()]
    shadow = [
        pa.field("version", pa.string()),
        _typed("prediction", "prediction", ARROW[types.label]),
        pa.field("probabilities", PROBABILITIES),
    ]
    columns += [pa.field("probabilities", PROBABILITIES), pa.field("shadows", pa.list_(pa.struct(shadow)))]
    columns += [pa.field("windows", WINDOWS)] if kind == "predictions" else []
    return pa.schema([*columns, pa.field("record", pa.string())])


def _add_features(fields: list[Any], types: Mapping[str, ColumnType]) -> None:
    at = next((i for i, f in enumerate(fields) if f.name == "features"), None)
    columns = [] if at is None else list(fields[at].type)
    for name, kind in types.items():
        _add_typed(columns, name, kind)
    features = pa.field("features", pa.struct(columns))
    if at is None:
        fields.append(features)
    else:
        fields[at] = features


def _add_typed(columns: list[Any], name: str, kind: ColumnType) -> None:
    """Add a column for values of a field, unless there is one of this type.

    Names that differ in case alone would be one name to Spark and BigQuery.
    """
    if any(field_of(column) == name and column.type == ARROW[kind] for column in columns):
        return
    taken, column, number = {c.name.lower() for c in columns}, name, 1
    if column.lower() in taken:
        column = f"{name}__{kind}"
    while column.lower() in taken:
        number += 1
        column = f"{name}__{kind}_{number}"
    columns.append(_typed(column, name, ARROW[kind]))


def _typed(column: str, name: str, kind: Any) -> Any:
    return pa.field(column, kind, metadata={FIELD: name.encode()})
