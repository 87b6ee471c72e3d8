"""The Open Inference Protocol without its wire: a request of tensors becomes observations, predictions an answer; pure.

A loop is a model, its fields are the inputs, and each row is an observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

from everloop_metrics.metric import class_name
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import PredictionMade
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.domain.tensors import InputTensor, OutputTensor, rejected
from everloop_serving.errors import NAME_LENGTH
from everloop_shared.errors import cut

DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "string": "BYTES"}


class InferenceRequest(NamedTuple):
    """A request. `version` is None where any may answer; `outputs` are the names asked for, none for all of them."""

    model: str
    version: str | None
    id: str | None
    parameters: Mapping[str, Any]
    inputs: Sequence[InputTensor]
    outputs: Sequence[str]


class InferenceAnswer(NamedTuple):
    """An answer. `version` is None where its rows were predicted by several; the output `version` has that of each."""

    model: str
    version: str | None
    id: str | None
    outputs: Sequence[OutputTensor]


class TensorMetadata(NamedTuple):
    """An input or output of a model; a size of -1 varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Any] | None = None


class ModelMetadata(NamedTuple):
    """A model: its versions in memory, inputs and outputs."""

    name: str
    versions: Sequence[str]
    inputs: Sequence[TensorMetadata]
    outputs: Sequence[TensorMetadata]
    platform: str = "everloop"


def describe(loop: ServedLoop) -> ModelMetadata:
    """The metadata of a loop."""
    inputs = [TensorMetadata(name, DATATYPES[field.type], (-1,)) for name, field in loop.spec.fields.items()]
    return ModelMetadata(loop.loop, loop.versions, inputs, output_metadata(loop.spec))


def output_metadata(spec: LoopSpec) -> list[TensorMetadata]:
    """The outputs of a loop, in the order of an answer."""
    outputs = [TensorMetadata("prediction", _prediction_datatype(spec), (-1,))]
    if spec.task != "regression":
        names = _class_names(spec)
        shape, classes = (-1, len(names) if names else -1), {"classes": names} if names else None
        outputs.append(TensorMetadata("probabilities", "FP64", shape, classes))
    return [*outputs, TensorMetadata("prediction_id", "BYTES", (-1,)), TensorMetadata("version", "BYTES", (-1,))]


def require_outputs(spec: LoopSpec, names: Sequence[str]) -> None:
    """Raises ObservationRejected for an output that there is not, or that is asked for twice."""
    known = [output.name for output in output_metadata(spec)]
    for i, name in enumerate(names):
        if name not in known:
            raise rejected(f"outputs.{i}.name", f"there is no output {cut(name, NAME_LENGTH)}; use {', '.join(known)}")
        if name in names[:i]:
            raise rejected(f"outputs.{i}.name", f"{name} is there twice; keep one")


def render_answer(
    loop: ServedLoop, request: InferenceRequest, predictions: Sequence[PredictionMade]
) -> InferenceAnswer:
    """The answer: the outputs that were asked for, in the order of the request."""
    versions = [p.data.version for p in predictions]
    metadata = {output.name: output for output in output_metadata(loop.spec)}
    outputs = [_render_output(metadata[name], loop.spec, predictions) for name in request.outputs or metadata]
    return InferenceAnswer(
        request.model, versions[0] if versions.count(versions[0]) == len(versions) else None, request.id, outputs
    )


def _render_output(output: TensorMetadata, spec: LoopSpec, predictions: Sequence[PredictionMade]) -> OutputTensor:
    shape: tuple[int, ...] = (len(predictions),)
    values: Sequence[Any]
    match output.name:
        case "prediction":
            values = [_CASTS[output.datatype](p.data.prediction) for p in predictions]
        case "prediction_id":
            values = [p.subject for p in predictions]
        case "version":
            values = [p.data.version for p in predictions]
        case _:
            return _render_probabilities(output, predictions)
    return OutputTensor(output.name, output.datatype, shape, values)


def _render_probabilities(output: TensorMetadata, predictions: Sequence[PredictionMade]) -> OutputTensor:
    """The probability of each class, NaN where the version gave none."""
    found = [p.data.probabilities for p in predictions]
    names = (output.parameters or {}).get("classes") or sorted({name for each in found if each for name in each})
    unknown = [nan] * len(names)
    values: list[float] = []
    for each in found:
        values += unknown if each is None else [each.get(name, 0.0) for name in names]
    return OutputTensor("probabilities", "FP64", (len(found), len(names)), values, {"classes": names})


_CASTS: Mapping[str, Callable[[Any], Any]] = {"FP64": float, "INT64": int, "BOOL": bool, "BYTES": class_name}


def _prediction_datatype(spec: LoopSpec) -> str:
    """The datatype of predictions: those of a regression have fractions, even where its labels are whole numbers."""
    return DATATYPES["number" if spec.task == "regression" else spec.label_type]


def _class_names(spec: LoopSpec) -> list[str]:
    """The classes by name, in the order of their probabilities; none where the spec does not name them."""
    if spec.task == "binary":
        return ["false", "true"]
    return [class_name(label) for label in spec.label.classes or ()]
