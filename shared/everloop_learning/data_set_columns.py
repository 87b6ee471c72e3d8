"""The columns of a data set and their types, by the loop's spec and by the values."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from everloop_features import compile_features
from everloop_features.expression import Expression
from everloop_features.plan import OF_NUMBERS
from everloop_features.steps import Step, Window
from everloop_learning.data_set import Row
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import DataSet

ColumnType = Literal["boolean", "integer", "number", "string"]
_ORDER: tuple[ColumnType, ...] = ("boolean", "integer", "number", "string")
"""Each holds what those before it hold."""
_BY_KIND: dict[type, ColumnType] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_WHOLE = range(-(2**63), 2**63)


class DescribedDataSet(DataSet):
    """A data set that was read, with the types of its features, in the order of the loop's spec, and of its label.

    `erased` is the number of learnable outcomes that it lacks, because their persons were erased.
    """

    features: dict[str, ColumnType]
    label: ColumnType
    erased: int = 0


class ColumnTypes:
    """The type of each column: the spec's, or a wider one where a value does not fit it.

    A spec says no type of an expression of numbers, nor of a feature that only an earlier revision had.
    """

    def __init__(self, spec: LoopSpec) -> None:
        self._names, self._declared = declared_types(spec)
        self._label: ColumnType = _known(spec.label_type)
        self._seen: dict[str, set[ColumnType]] = {}
        self._labels: set[ColumnType] = set()

    def add(self, rows: Iterable[Row]) -> None:
        """Take in the values of the next rows."""
        for row in rows:
            self._labels.add(_type_of(row.label))
            for name, value in row.features.items():
                seen = self._seen.setdefault(name, set())
                if value is not None:
                    seen.add(_type_of(value))

    def describe(self, data_set: DataSet, erased: int = 0) -> DescribedDataSet:
        """The data set with the types of the values so far; features that no row has are left out."""
        names = [name for name in self._names if name in self._seen]
        names += sorted(self._seen.keys() - set(names))
        features = {name: _widest({*self._seen[name], *self._declared.get(name, ())}) for name in names}
        label = _widest({*self._labels, self._label})
        return DescribedDataSet(**data_set.model_dump(), features=features, label=label, erased=erased)


def column_names(data_set: DescribedDataSet) -> tuple[str, str, str, str]:
    """The names of the columns beside the features: offset, time, prediction id and label.

    Where a feature has such a name already, the column is called `everloop_...`.
    """
    offset, time, prediction_id, label = (
        f"everloop_{name}" if name in data_set.features else name
        for name in ("offset", "time", "prediction_id", "label")
    )
    return offset, time, prediction_id, label


def fitted(values: Sequence[Any], kind: ColumnType) -> list[Any]:
    """The values in the type of their column; missing ones stay None."""
    convert = _CONVERSIONS.get(kind)
    return list(values) if convert is None else [None if value is None else convert(value) for value in values]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_CONVERSIONS: dict[ColumnType, Callable[[Any], Any]] = {"integer": int, "number": float, "string": _text}


def declared_types(spec: LoopSpec) -> tuple[tuple[str, ...], dict[str, tuple[ColumnType, ...]]]:
    """The names of the loop's features in order, and the type of each, empty where the spec says none."""
    plan = compile_features(spec)
    steps = dict(plan.steps)
    types = {name: _known(spec.fields[name].type) for name in plan.names if name in spec.fields}
    return plan.names, {
        name: (types[name],) if name in types else _type_of_step(steps[name], spec) for name in plan.names
    }


def _type_of_step(step: Step, spec: LoopSpec) -> tuple[ColumnType, ...]:
    if step is None:
        return (_known(spec.label_type),)
    if isinstance(step, Expression):
        return ("string",) if step.kind == "string" else ()
    return (_type_of_window(step, spec),)


def _type_of_window(window: Window, spec: LoopSpec) -> ColumnType:
    if window.function == "count":
        return "integer"
    return "number" if window.function in OF_NUMBERS else _known(spec.fields[window.field].type)


def _known(name: str) -> ColumnType:
    return next(known for known in _ORDER if known == name)


def _type_of(value: Scalar) -> ColumnType:
    if type(value) is int and value not in _WHOLE:
        return "number"
    return _BY_KIND[type(value)]


def _widest(types: set[ColumnType]) -> ColumnType:
    return max(types, key=_ORDER.index, default="number")
