"""A usual observation in the metadata of an ONNX file: what explanations of its predictions begin with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import TypeGuard

from everloop_models.formats.onnx.interface import Interface
from everloop_schemas.envelope import Fields, Scalar

USUAL_KEY = "everloop.usual"
"""In the file's metadata: a usual value of each feature, as a JSON object."""
MAX_CHARACTERS = 200_000


def write_usual(values: Mapping[str, Scalar]) -> str:
    """The text for the metadata; values that are not finite are left out."""
    return json.dumps({name: value for name, value in values.items() if isinstance(value, str) or isfinite(value)})


def read_usual(text: str | None, interface: Interface) -> Fields:
    """A usual value for each feature that a model is fed; 0 or the empty text where the file names none that fits.

    A file may come from anywhere, so that whatever is no such object counts as none.
    """
    try:
        found = json.loads(text) if text is not None and len(text) <= MAX_CHARACTERS else {}
    except (ValueError, RecursionError):
        found = {}
    given = found if isinstance(found, dict) else {}
    usual: Fields = {}
    for each in interface.inputs:
        for name in each.features:
            value = given.get(name)
            if each.type == "string":
                usual[name] = value if isinstance(value, str) else ""
            elif each.type in ("float", "double"):
                usual[name] = value if _is_number(value) else 0.0
            else:
                usual[name] = round(value) if _is_number(value) else 0
    return usual


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and abs(value) < 1e300
