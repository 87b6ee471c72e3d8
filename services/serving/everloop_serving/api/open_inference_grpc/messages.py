"""The messages of the protocol as the requests and answers of the handlers, which know no wire."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from everloop_serving.api.open_inference_grpc.protocol import open_inference_pb2 as pb
from everloop_serving.api.open_inference_grpc.statuses import code_of
from everloop_serving.domain.inference import InferenceAnswer, InferenceRequest, ModelMetadata
from everloop_serving.domain.tensors import InputTensor, OutputTensor, encode_raw, read_tensor, rejected
from everloop_shared.errors import ErrorKind, InputRejected

M = TypeVar("M", bound=Message)
MAX_TENSORS = 10_000
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The member of `contents` with the values of a datatype; those of FP16 and BF16 are always raw."""


class MessageNotReadable(InputRejected):
    """The bytes are not the message of this method."""

    kind = ErrorKind.MALFORMED
    title = "Message not readable"


def read_message(kind: type[M], message: bytes) -> M:
    """The message of these bytes; raises MessageNotReadable."""
    try:
        return kind.FromString(message)
    except DecodeError as e:
        raise MessageNotReadable(f"the message is no {kind.DESCRIPTOR.full_name}") from e


async def receive(kind: type[M], message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> M:
    """The message of these bytes. Ends the call where they are none: a deserializer of gRPC's would answer UNKNOWN."""
    try:
        return read_message(kind, message)
    except MessageNotReadable as e:
        await context.abort(code_of(e), e.detail)
    raise AssertionError("abort raises")


def read_infer_request(message: bytes) -> tuple[InferenceRequest, bool]:
    """The request, and whether its tensors are raw; raises MessageNotReadable or ObservationRejected."""
    request = read_message(pb.ModelInferRequest, message)
    if max(len(request.inputs), len(request.outputs)) > MAX_TENSORS:
        raise rejected("inputs", f"a request has at most {MAX_TENSORS:,} tensors")
    raw = list(request.raw_input_contents)
    inputs = _read_raw(request.inputs, raw) if raw else _read_typed(request.inputs)
    outputs = [output.name for output in request.outputs]
    parameters = _read_parameters(request.parameters)
    version, request_id = request.model_version or None, request.id or None
    return InferenceRequest(request.model_name, version, request_id, parameters, inputs, outputs), bool(raw)


def write_infer_answer(answer: InferenceAnswer, raw: bool) -> bytes:
    """The answer, its tensors raw as those of the request, or not."""
    response = pb.ModelInferResponse(model_name=answer.model, model_version=answer.version or "", id=answer.id or "")
    for output in answer.outputs:
        tensor = response.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        for name, value in (output.parameters or {}).items():
            tensor.parameters[name].string_param = value if isinstance(value, str) else json.dumps(value)
        if raw:
            response.raw_output_contents.append(encode_raw(output.datatype, output.values))
        else:
            getattr(tensor.contents, CONTENTS[output.datatype]).extend(_typed(output))
    return response.SerializeToString()


def write_metadata(model: ModelMetadata) -> bytes:
    """The metadata of a model."""
    response = pb.ModelMetadataResponse(name=model.name, versions=model.versions, platform=model.platform)
    for message, tensors in ((response.inputs, model.inputs), (response.outputs, model.outputs)):
        for tensor in tensors:
            message.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return response.SerializeToString()


def _read_raw(inputs: Sequence[pb.ModelInferRequest.InferInputTensor], raw: Sequence[bytes]) -> list[InputTensor]:
    if len(raw) != len(inputs):
        raise rejected("raw_input_contents", f"has {len(raw)} entries for {len(inputs)} inputs; send one for each")
    for i, tensor in enumerate(inputs):
        if tensor.HasField("contents"):
            raise rejected(f"inputs.{i}.contents", "cannot be beside raw_input_contents; send one of them")
    return [
        read_tensor(f"inputs.{i}", tensor.name, tensor.datatype or None, list(tensor.shape) or None, content)
        for i, (tensor, content) in enumerate(zip(inputs, raw, strict=True))
    ]


def _read_typed(inputs: Sequence[pb.ModelInferRequest.InferInputTensor]) -> list[InputTensor]:
    return [
        read_tensor(f"inputs.{i}", t.name, t.datatype or None, list(t.shape) or None, _values(f"inputs.{i}", t))
        for i, t in enumerate(inputs)
    ]


def _values(place: str, tensor: pb.ModelInferRequest.InferInputTensor) -> list[Any]:
    member = CONTENTS.get(tensor.datatype)
    if member is None:
        if tensor.datatype in ("FP16", "BF16"):
            raise rejected(place, f"{tensor.datatype} has no typed contents; send all tensors in raw_input_contents")
        return []
    values = list(getattr(tensor.contents, member))
    if not values:
        raise rejected(f"{place}.contents.{member}", f"has no values; those of datatype {tensor.datatype} belong there")
    if member != "bytes_contents":
        return values
    try:
        return [str(value, "utf-8") for value in values]
    except UnicodeDecodeError:
        raise rejected(f"{place}.contents.{member}", "must be text in UTF-8") from None


def _typed(output: OutputTensor) -> Sequence[Any]:
    return [str(value).encode() for value in output.values] if output.datatype == "BYTES" else output.values


def _read_parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Any]:
    found = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[name] = getattr(parameter, choice) if choice else None
    return found
