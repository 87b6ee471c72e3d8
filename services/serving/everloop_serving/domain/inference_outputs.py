"""The outputs of a loop in the Open Inference Protocol; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from everloop_metrics import class_name
from everloop_schemas.loop import LoopSpec

DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "string": "BYTES"}


class TensorMetadata(NamedTuple):
    """An input or output of a model; a size of -1 varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Any] | None = None


def describe_outputs(spec: LoopSpec) -> Mapping[str, TensorMetadata]:
    """The outputs of a loop by name, in the order of an answer."""
    outputs = [TensorMetadata("prediction", _prediction_datatype(spec), (-1,))]
    if spec.task != "regression":
        names = _class_names(spec)
        shape, classes = (-1, len(names) if names else -1), {"classes": names} if names else None
        outputs.append(TensorMetadata("probabilities", "FP64", shape, classes))
    outputs += [TensorMetadata("prediction_id", "BYTES", (-1,)), TensorMetadata("version", "BYTES", (-1,))]
    return {output.name: output for output in outputs}


def _prediction_datatype(spec: LoopSpec) -> str:
    """The datatype of predictions: those of a regression have fractions, even where its labels are whole numbers."""
    return DATATYPES["number" if spec.task == "regression" else spec.label_type]


def _class_names(spec: LoopSpec) -> list[str]:
    """The classes by name, in the order of their probabilities; none where the spec does not name them."""
    if spec.task == "binary":
        return ["false", "true"]
    return [class_name(label) for label in spec.label.classes or ()]
