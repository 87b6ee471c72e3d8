"""The Open Inference Protocol without its wire: a request of tensors becomes observations, predictions an answer; pure.

A loop is a model, its fields are the inputs, and each row is an observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

import msgspec

from everloop_metrics import class_name
from everloop_schemas.serving import PredictionMade, PredictionMadeData
from everloop_serving.domain.explained_outputs import EXPLAINED, PARAMETER, is_asked_for, render_explained
from everloop_serving.domain.inference_outputs import DATATYPES, TensorMetadata
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.domain.tensors import InputTensor, OutputTensor, rejected
from everloop_serving.errors import NAME_LENGTH
from everloop_shared.errors import cut


class InferenceRequest(NamedTuple):
    """A request. `version` is None where any may answer; `outputs` are the names asked for, none for all of them."""

    model: str
    version: str | None
    id: str | None
    parameters: Mapping[str, Any]
    inputs: Sequence[InputTensor]
    outputs: Sequence[str]


class InferenceAnswer(msgspec.Struct, rename={"model": "model_name", "version": "model_version"}, omit_defaults=True):
    """An answer. `version` is None where its rows were predicted by several; the output `version` has that of each."""

    model: str
    outputs: Sequence[OutputTensor]
    version: str | None = None
    id: str | None = None


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
    return ModelMetadata(loop.loop, loop.versions, inputs, list(loop.outputs.values()))


def require_outputs(loop: ServedLoop, names: Sequence[str], explains: bool = False) -> None:
    """Raises ObservationRejected for an output that there is not, or that is asked for twice."""
    for i, name in enumerate(names):
        if name in EXPLAINED and not explains:
            raise rejected(f"outputs.{i}.name", f"{name} is of explanations; set the parameter {PARAMETER} to true")
        if name not in loop.outputs and name not in EXPLAINED:
            known = ", ".join(loop.outputs)
            raise rejected(f"outputs.{i}.name", f"there is no output {cut(name, NAME_LENGTH)}; use {known}")
        if name in names[:i]:
            raise rejected(f"outputs.{i}.name", f"{name} is there twice; keep one")


def render_answer(
    loop: ServedLoop, request: InferenceRequest, predictions: Sequence[PredictionMade]
) -> InferenceAnswer:
    """The answer: the outputs that were asked for, in the order of the request."""
    made, count = [p.data for p in predictions], len(predictions)
    versions = [data.version for data in made]
    outputs = list[OutputTensor]()
    explains = is_asked_for(request.parameters)
    for name in request.outputs or (*loop.outputs, *(EXPLAINED if explains else ())):
        if name in EXPLAINED:
            outputs.append(render_explained(name, made))
            continue
        datatype = loop.outputs[name].datatype
        if name == "prediction":
            values = list(map(CASTS[datatype], [data.prediction for data in made]))
        elif name == "prediction_id":
            values = [p.subject for p in predictions]
        elif name == "version":
            values = versions
        elif request.outputs or any(data.probabilities is not None for data in made):
            outputs.append(_render_probabilities(loop.outputs[name], made))
            continue
        else:
            continue  # a client that did not ask for it may not be able to read null, as JSON writes NaN
        outputs.append(OutputTensor(name, datatype, (count,), values))
    version = versions[0] if versions.count(versions[0]) == count else None
    return InferenceAnswer(request.model, outputs, version, request.id)


def _render_probabilities(output: TensorMetadata, made: Sequence[PredictionMadeData]) -> OutputTensor:
    """The probability of each class, NaN where the version gave none."""
    found = [data.probabilities for data in made]
    names = (output.parameters or {}).get("classes") or sorted({name for each in found if each for name in each})
    values: list[float] = []
    for each in found:
        values += [nan] * len(names) if each is None else [each.get(name, 0.0) for name in names]
    return OutputTensor("probabilities", "FP64", (len(found), len(names)), values, {"classes": names})


CASTS: Mapping[str, Callable[[Any], Any]] = {"FP64": float, "INT64": int, "BOOL": bool, "BYTES": class_name}
