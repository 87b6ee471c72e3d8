"""Reads and writes the bodies of inference requests by REST: JSON, and raw bytes after it for tensors sent in binary.

The Open Inference Protocol, version 2, with Triton's extension "binary tensor data".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from everloop_serving.api.usual_inference import decode_usual, read_usual_tensors
from everloop_serving.domain.inference import InferenceAnswer, InferenceRequest
from everloop_serving.domain.tensors import InputTensor, OutputTensor, encode_raw, read_tensor, rejected
from everloop_serving.errors import NAME_LENGTH
from everloop_shared import strict_json
from everloop_shared.errors import FieldError, cut
from everloop_shared.http.json_body import BodyNotJson

HEADER_LENGTH = "inference-header-content-length"
"""The header that says how many bytes of a body are JSON; the tensors in binary follow them."""
_encoder = msgspec.json.Encoder()
_LEFT_OUT: Any = msgspec.UNSET


class AnswerForm(NamedTuple):
    """Which outputs the client wants in binary: those by name, and whether the others."""

    by_name: Mapping[str, bool]
    others: bool

    def is_binary(self, name: str) -> bool:
        """Whether an output is written in binary."""
        return self.by_name.get(name, self.others)


def read_request(
    model: str, version: str | None, text: bytes, binary: memoryview
) -> tuple[InferenceRequest, AnswerForm]:
    """The request in a body, and the form of its answer; raises BodyNotJson or ObservationRejected."""
    usual = decode_usual(text)
    if usual and (tensors := read_usual_tensors(usual, binary)):
        parameters, (names, by_name) = usual.parameters or {}, read_outputs(usual.outputs or None)
        request = InferenceRequest(model, version, usual.id or None, parameters, tensors, names)
        return request, AnswerForm(by_name, _flag("parameters", parameters, "binary_data_output"))
    return _read_any(model, version, text, binary)


def _read_any(model: str, version: str | None, text: bytes, binary: memoryview) -> tuple[InferenceRequest, AnswerForm]:
    """A request of any form, with an error for what is wrong."""
    parsed = _read_json(text)
    if not isinstance(parsed, dict):
        raise rejected("inputs", 'must be a list of tensors in an object, {"inputs": [...]}')
    parameters = _parameters("parameters", parsed)
    names, by_name = read_outputs(parsed.get("outputs"))
    request = InferenceRequest(
        model=model,
        version=version,
        id=_read_id(parsed.get("id")),
        parameters=parameters,
        inputs=_read_inputs(parsed.get("inputs"), binary),
        outputs=names,
    )
    return request, AnswerForm(by_name, _flag("parameters", parameters, "binary_data_output"))


def write_answer(answer: InferenceAnswer, form: AnswerForm) -> tuple[bytes, int | None]:
    """The body of an answer, and how much of it is JSON where tensors in binary follow."""
    if not form.others and not form.by_name:
        return _encoder.encode(answer), None
    binary = list[bytes]()
    outputs = [_write_output(tensor, binary) if form.is_binary(tensor.name) else tensor for tensor in answer.outputs]
    header = _encoder.encode(InferenceAnswer(answer.model, outputs, answer.version, answer.id))
    return (b"".join([header, *binary]), len(header)) if binary else (header, None)


def _write_output(tensor: OutputTensor, binary: list[bytes]) -> OutputTensor:
    """The tensor without its values, which are added to `binary`."""
    raw = encode_raw(tensor.datatype, tensor.values)
    binary.append(raw)
    return without_values(tensor, len(raw))


def without_values(tensor: OutputTensor, size: Any) -> OutputTensor:
    """The tensor as it is described where its values follow in binary, with so many bytes."""
    parameters = {**(tensor.parameters or {}), "binary_data_size": size}
    return OutputTensor(tensor.name, tensor.datatype, tensor.shape, _LEFT_OUT, parameters)


def split_body(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """The JSON in a body, and the bytes after it; raises ObservationRejected."""
    size = _header_size(body, header_length)
    return body if size == len(body) else body[:size], memoryview(body)[size:]


def _header_size(body: bytes, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    digits = header_length.strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18 or int(digits) > len(body):
        raise rejected(
            "Inference-Header-Content-Length",
            f"must be the bytes of the JSON at the beginning of the body, {len(body)} at most; is {_shown(digits)}",
        )
    return int(digits)


def _read_json(text: bytes) -> Any:
    try:
        return strict_json.read(text)
    except strict_json.NotJson as e:
        raise BodyNotJson(f"the body is {str(e)[:300]}", [FieldError("body", str(e)[:300])]) from e


def _read_id(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise rejected("id", "must be text, or left out")
    return value or None


def _read_inputs(inputs: Any, binary: memoryview) -> list[InputTensor]:
    if not isinstance(inputs, list) or not inputs or not all(isinstance(tensor, dict) for tensor in inputs):
        raise rejected("inputs", 'must be a list of {"name", "shape", "datatype", "data"}, one for each field')
    tensors, position = list[InputTensor](), 0
    for i, tensor in enumerate(inputs):
        place, name, content = f"inputs.{i}", tensor.get("name"), tensor.get("data")
        size = _parameters(f"{place}.parameters", tensor).get("binary_data_size")
        if size is not None:
            if content is not None:
                raise rejected(place, f"{_shown(name)} has both data and binary_data_size; keep one")
            content = _take(place, name, binary, position, size)
            position += size
        elif not isinstance(content, list):
            raise rejected(f"{place}.data", f"{_shown(name)} needs its values, as a list in data or in binary")
        tensors.append(read_tensor(place, name, tensor.get("datatype"), tensor.get("shape"), content))
    if position != len(binary):
        raise rejected(
            "inputs", f"their binary_data_size add up to {position}, and {len(binary)} bytes follow the JSON"
        )
    return tensors


def _take(place: str, name: Any, binary: memoryview, position: int, size: Any) -> memoryview:
    left = len(binary) - position
    if type(size) is not int or not 0 <= size <= left:
        error = f"{_shown(name)} must have the bytes of its binary data, {left} at most; says {_shown(size)}"
        raise rejected(f"{place}.parameters.binary_data_size", error)
    return binary[position : position + size]


def read_outputs(outputs: Any) -> tuple[list[str], dict[str, bool]]:
    """The names of the outputs that are asked for, and which of them are said to be binary or not."""
    if outputs is None:
        return [], {}
    if not isinstance(outputs, list) or not all(
        isinstance(o, dict) and isinstance(o.get("name"), str) for o in outputs
    ):
        raise rejected("outputs", 'must be a list of {"name": ...}, or left out for all outputs')
    binary = dict[str, bool]()
    for i, output in enumerate(outputs):
        parameters = _parameters(f"outputs.{i}.parameters", output)
        if parameters.get("binary_data") is not None:
            binary[output["name"]] = _flag(f"outputs.{i}.parameters", parameters, "binary_data")
    return [output["name"] for output in outputs], binary


def _parameters(place: str, owner: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = owner.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise rejected(place, "must be an object, or left out")
    return parameters


def _flag(place: str, parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise rejected(f"{place}.{name}", "must be true or false, or left out")
    return bool(value)


def _shown(value: Any) -> str:
    return cut(str(value), NAME_LENGTH)
