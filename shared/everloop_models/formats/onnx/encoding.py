"""Encodes feature values as the tensors that an ONNX model takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan
from sys import float_info
from typing import Any

import numpy as np

from everloop_models.errors import ModelBroken
from everloop_models.formats.onnx.interface import Interface, ModelInput
from everloop_models.formats.onnx.texts import quoted
from everloop_schemas.envelope import Fields, Scalar

Tensor = np.ndarray[Any, Any]
_LARGEST = {"float": float(np.finfo(np.float32).max), "double": float_info.max}
_DTYPES: dict[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "int64": np.int64,
    "int32": np.int32,
    "bool": np.bool_,
    "string": np.object_,
}


class TensorEncoder:
    """Makes the tensors of an interface from rows of features.

    Numbers stay, beyond the largest of a tensor's type they count as that, booleans become 0 and 1, and what is
    missing becomes NaN, or the empty string. Whole numbers and booleans cannot be missing.
    """

    def __init__(self, interface: Interface) -> None:
        self._inputs = [(each, _values_of(each), _DTYPES[each.type]) for each in interface.inputs]

    def encode(self, rows: Sequence[Fields]) -> dict[str, Tensor]:
        """The tensors by input; raises ModelBroken naming the feature that cannot be one."""
        fed = {}
        for each, values, dtype in self._inputs:
            tensor = np.array([values(row) for row in rows], dtype=dtype)
            fed[each.name] = tensor.reshape(-1) if each.flat else tensor
        return fed


def _values_of(each: ModelInput) -> Callable[[Fields], list[Any]]:
    """The columns of a row."""
    if each.type in _LARGEST:
        return _fractions(each.features, _LARGEST[each.type])
    exact = {"int64": _whole(2**63), "int32": _whole(2**31), "bool": _truth, "string": _text}[each.type]
    return lambda row: [exact(name, row.get(name)) for name in each.features]


def _fractions(features: tuple[str, ...], largest: float) -> Callable[[Fields], list[float]]:
    def values(row: Mapping[str, Any]) -> list[float]:
        get = row.get
        try:
            return [
                nan if (v := get(name)) is None else v if -largest < v < largest else _beyond(v, largest)
                for name in features
            ]
        except TypeError as e:
            text = next(name for name in features if isinstance(get(name), str))
            raise ModelBroken(f"the feature {text} is text, and the model takes a number") from e

    return values


def _beyond(value: float, largest: float) -> float:
    return value if value != value else largest if value > 0 else -largest


def _whole(limit: int) -> Callable[[str, Scalar | None], int]:
    def value(name: str, found: Scalar | None) -> int:
        if found is None or isinstance(found, str) or found != found or found in (float("inf"), -float("inf")):
            raise ModelBroken(f"the feature {name} is {_what(found)}, and the model takes a whole number")
        if (whole := int(found)) != found:
            raise ModelBroken(f"the feature {name} is {found!r}, and the model takes a whole number")
        return min(max(whole, -limit), limit - 1)

    return value


def _truth(name: str, found: Scalar | None) -> bool:
    if found not in (0, 1):
        raise ModelBroken(f"the feature {name} is {_what(found)}, and the model takes true or false")
    return bool(found)


def _text(name: str, found: Scalar | None) -> str:
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ModelBroken(f"the feature {name} is a number, and the model takes text")
    return found


def _what(found: Scalar | None) -> str:
    return "missing" if found is None else quoted(found) if isinstance(found, str) else repr(found)
