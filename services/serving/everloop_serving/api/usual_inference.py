"""Reads inference requests of usual form, in a third of the time that it takes with every check of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from everloop_features.observation_decoder import count_keys
from everloop_serving.domain.inference_plans import count_output_keys
from everloop_serving.domain.tensors import DATATYPES, InputTensor, column_type, decode_raw, usual_rows

UNSET = msgspec.UNSET


class UsualTensor(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A tensor with its values in JSON, which are not read yet, or in binary."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw | msgspec.UnsetType = UNSET
    parameters: dict[str, Any] | msgspec.UnsetType | None = UNSET


class UsualRequest(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A request, with no other members than the protocol's."""

    inputs: list[UsualTensor]
    id: str | msgspec.UnsetType | None = UNSET
    parameters: dict[str, Any] | msgspec.UnsetType | None = UNSET
    outputs: list[Any] | msgspec.UnsetType | None = UNSET


_request = msgspec.json.Decoder(UsualRequest)
_columns = {datatype: msgspec.json.Decoder(column_type(datatype)) for datatype in DATATYPES}


def decode_usual(text: bytes) -> UsualRequest | None:
    """The request in a JSON text; None where it is not of usual form, repeats a key, or is wrong."""
    try:
        request = _request.decode(text)
    except (ValueError, RecursionError):
        return None
    keys = 1 + (request.id is not UNSET) + (request.parameters is not UNSET) + (request.outputs is not UNSET)
    keys += len(request.parameters or ())
    for tensor in request.inputs:
        keys += 3 + (tensor.data is not UNSET) + (tensor.parameters is not UNSET) + len(tensor.parameters or ())
    keys += count_output_keys(request.outputs)
    return request if keys == count_keys(text) else None


def read_usual_tensors(request: UsualRequest, binary: memoryview) -> list[InputTensor] | None:
    """The tensors of a request; None where one is wrong, or nested."""
    tensors, position = list[InputTensor](), 0
    try:
        for i, tensor in enumerate(request.inputs):
            rows, datatype, parameters = usual_rows(tensor.shape), tensor.datatype, tensor.parameters
            size = parameters.get("binary_data_size") if parameters else None
            if size is None:
                if tensor.data is UNSET:
                    return None
                values = _columns[datatype].decode(tensor.data)
                if len(values) != rows:
                    return None
            elif tensor.data is UNSET and rows and type(size) is int and 0 <= size <= len(binary) - position:
                values = decode_raw(datatype, binary[position : position + size], rows)
                position += size
            else:
                return None
            tensors.append(InputTensor(f"inputs.{i}", tensor.name, datatype, values))
    except (KeyError, TypeError, ValueError):
        return None
    return tensors if tensors and position == len(binary) else None
