"""Sample values of observation fields and the feature vectors that follow, to try features and models with."""

from __future__ import annotations

import math

from everloop_features.plan import FeaturePlan
from everloop_schemas.envelope import Fields, Scalar, utc_time
from everloop_schemas.loop import LoopSpec
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


def sample_vectors(spec: LoopSpec, plan: FeaturePlan, count: int) -> list[Fields]:
    """The feature vectors of some sample observations of one entity."""
    state, vectors = plan.empty(), list[Fields]()
    for i in range(count):
        state, vector = plan.apply(state, {f: sample_value(of, i) for f, of in spec.fields.items()}, utc_time(i))
        vectors.append(vector)
    return vectors
