"""A loop's file as a schema of TensorFlow Data Validation: types, ranges, enumerations, and what may be missing."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tensorflow_metadata.proto.v0 import schema_pb2

from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FieldSpec

LABEL = "label"
TYPES = {
    "boolean": schema_pb2.INT,
    "integer": schema_pb2.INT,
    "number": schema_pb2.FLOAT,
    "string": schema_pb2.BYTES,
}


def loop_schema(spec: LoopSpec, features: Mapping[str, str]) -> schema_pb2.Schema:
    """The schema of the examples of a data set, whose `features` are types by name; the label is `label`.

    A feature that is a field of the loop has the field's rules. Others, such as windows, have their type, and may be
    missing, as they are before the first event.
    """
    schema = schema_pb2.Schema()
    for name, kind in features.items():
        field = spec.fields.get(name) or FieldSpec(type=kind, missing="null")
        _describe(schema.feature.add(name=name), field)
    label = spec.label
    classes = label.classes if spec.task == "multiclass" else None
    described = FieldSpec(type=spec.label_type, min=label.min, max=label.max, enum=classes)
    _describe(schema.feature.add(name=LABEL), described)
    return schema


def _describe(feature: schema_pb2.Feature, field: FieldSpec) -> None:
    feature.type = TYPES[field.type]
    feature.value_count.min = feature.value_count.max = 1
    if field.missing == "refuse":
        feature.presence.min_fraction, feature.presence.min_count = 1.0, 1
    if field.type == "string" and field.enum:
        feature.string_domain.name = feature.name
        feature.string_domain.value.extend(map(str, field.enum))
    elif field.type == "number":
        feature.float_domain.disallow_nan = feature.float_domain.disallow_inf = True
        _bound(feature.float_domain, field.min, field.max)
    elif field.type == "boolean":
        _bound(feature.int_domain, 0, 1)
    elif field.type == "integer":
        lowest, highest = (min(field.enum), max(field.enum)) if field.enum else (field.min, field.max)
        whole = None if lowest is None else math.ceil(lowest), None if highest is None else math.floor(highest)
        _bound(feature.int_domain, *whole)


def _bound(domain: schema_pb2.FloatDomain | schema_pb2.IntDomain, lowest: float | None, highest: float | None) -> None:
    if lowest is not None:
        domain.min = lowest
    if highest is not None:
        domain.max = highest
