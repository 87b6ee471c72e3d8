"""Sample values of observation fields, to try features and models with."""

from __future__ import annotations

import math

from everloop_schemas.envelope import Scalar
from everloop_schemas.loop_parts import FieldSpec


def sample_value(of: FieldSpec, i: int = 0) -> Scalar:
    """The `i`th sample value that fits a field."""
    if of.enum:
        return of.enum[i % len(of.enum)]
    if of.type == "string":
        return "abcdefgh"[i % 8]
    if of.type == "boolean":
        return i % 2 == 1
    low, high = of.min, of.max
    number = low if low is not None else high if high is not None else 0.0
    step = float(i) if high is None or number + i <= high else 0.0
    return math.ceil(number) if of.type == "integer" else number + step
