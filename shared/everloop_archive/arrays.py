"""Records of the log as Arrow record batches, in the columns of their table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]

from everloop_archive.columns import ARROW, PROBABILITIES, FieldTypes, field_of
from everloop_archive.layout import Kind
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.serving import PredictionMade
from everloop_shared.messaging.routes import Position

_INT64 = range(-(2**63), 2**63)


class ArchivedRecord(NamedTuple):
    """A record of the log: its event, and its value as it is there.

    `life` is the first revision of the loop's lifetime it belongs to, None where that had ended before.
    """

    at: Position
    event: OutcomeObserved | PredictionMade
    value: bytes
    life: int | None


def record_batch(schema: Any, kind: Kind, types: FieldTypes, records: Sequence[ArchivedRecord]) -> Any:
    """The records as a batch with the columns of `schema`, which is that of the files of a table of this kind."""
    data: list[Any] = [record.event.data for record in records]
    typed = _by_field(schema)
    columns: dict[str, Any] = {
        "offset": [r.at.offset for r in records],
        "partition": [r.at.partition for r in records],
        "life": [r.life for r in records],
        "revision": [r.event.revision for r in records],
        "appended": [r.at.timestamp * 1000 for r in records],
        "id": [r.event.id for r in records],
        "prediction_id": [r.event.subject for r in records],
        "time": [d.predicted if kind == "outcomes" else d.observed for d in data],
        "record": [r.value for r in records],
        "features": lambda column: _features(column.type, types, [d.features for d in data]),
        "probabilities": lambda column: _probabilities([d.probabilities for d in data]),
        "shadows": lambda column: _shadows(column.type, types, [d.shadows for d in data]),
        "windows": lambda column: _windows(column.type, data),
    }
    arrays: dict[str, Any] = {}
    for column in schema:
        name = field_of(column)
        if column.name in arrays:
            continue
        if len(typed[name]) > 1 or column.metadata:
            values = list(map(attrgetter(name), data))
            arrays |= _typed_arrays(typed[name], ARROW[types.label], values)
            continue
        values = columns[name] if name in columns else list(map(attrgetter(name), data))
        arrays[name] = values(column) if callable(values) else pa.array(values, type=column.type)
    return pa.record_batch([arrays[column.name] for column in schema], schema=schema)


def _by_field(columns: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for column in columns:
        found.setdefault(field_of(column), []).append(column)
    return found


def _typed_arrays(columns: Sequence[Any], preferred: Any, values: Sequence[Any]) -> dict[str, Any]:
    """The values of one field in its columns: each in the first that it fits, the one of type `preferred` first."""
    if len(columns) == 1:
        return {columns[0].name: _array(values, columns[0].type)}
    left, arrays = list(values), dict[str, Any]()
    for column in sorted(columns, key=lambda c: c.type != preferred):
        fitted = [None if value is None else _FIT[column.type](value) for value in left]
        left = [None if fit is not None else value for fit, value in zip(fitted, left, strict=True)]
        arrays[column.name] = pa.array(fitted, type=column.type)
    return arrays


def _array(values: Sequence[Any], kind: Any) -> Any:
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError):  # a value does not fit: null
        return pa.array([None if value is None else _FIT[kind](value) for value in values], type=kind)


def _features(kind: Any, types: FieldTypes, features: Sequence[Mapping[str, Any]]) -> Any:
    arrays: dict[str, Any] = {}
    for name, columns in _by_field(kind).items():
        arrays |= _typed_arrays(
            columns, ARROW[types.features.get(name, "string")], [values.get(name) for values in features]
        )
    return pa.StructArray.from_arrays([arrays[column.name] for column in kind], fields=list(kind))


def _probabilities(maps: Sequence[Mapping[str, float] | None]) -> Any:
    """A column of maps; missing ones are null."""
    starts, keys, values = list[int | None](), list[str](), list[float]()
    for one in maps:
        starts.append(None if one is None else len(keys))
        if one:
            keys.extend(one)
            values.extend(one.values())
    offsets = pa.array([*starts, len(keys)], type=pa.int32())
    found = pa.MapArray.from_arrays(offsets, pa.array(keys, type=pa.string()), _array(values, pa.float64()))
    return found.cast(PROBABILITIES)


def _shadows(kind: Any, types: FieldTypes, shadows: Sequence[Sequence[Any]]) -> Any:
    starts, every, fields = [0], list[Any](), list(kind.value_type)
    for some in shadows:
        every.extend(some)
        starts.append(len(every))
    arrays = _typed_arrays(
        [f for f in fields if field_of(f) == "prediction"], ARROW[types.label], [s.prediction for s in every]
    )
    arrays["version"] = pa.array([s.version for s in every], type=pa.string())
    arrays["probabilities"] = _probabilities([s.probabilities for s in every])
    values = pa.StructArray.from_arrays([arrays[f.name] for f in fields], fields=fields)
    return pa.ListArray.from_arrays(pa.array(starts, type=pa.int32()), values).cast(kind)


def _windows(kind: Any, data: Sequence[Any]) -> Any:
    rows = [
        None if (w := d.windows) is None else {"applied": w.applied, "source": w.source, "previous": w.previous}
        for d in data
    ]
    return pa.array(rows, type=kind)


def _fit_boolean(value: Any) -> bool | None:
    return value if type(value) is bool else None


def _fit_integer(value: Any) -> int | None:
    if isinstance(value, str) or value != value or int(value) != value or int(value) not in _INT64:
        return None
    return int(value)


def _fit_number(value: Any) -> float | None:
    try:
        return None if isinstance(value, str) else float(value)
    except OverflowError:
        return None


def _fit_string(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_FIT: dict[Any, Callable[[Any], Any]] = {
    pa.bool_(): _fit_boolean,
    pa.int64(): _fit_integer,
    pa.float64(): _fit_number,
    pa.string(): _fit_string,
}
