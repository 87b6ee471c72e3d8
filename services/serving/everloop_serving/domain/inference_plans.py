"""Inference requests of one row, read by a decoder compiled for the tensors that they have, and their answers; pure.

Nearly all requests of a client have the same tensors in the same order. What is read here is read as by
`inference_rows`, and answered with the same bytes; everything else, every error among it, is left to the general way.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec.structs import astuple

from everloop_features.observation import INTEGER_LIMIT, STRING_LIMIT, Observation
from everloop_features.observation_decoder import ObservationDecoder, count_keys
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import FieldSpec
from everloop_serving.domain.tensors import FLOATS, FORMATS, INTEGERS, LARGEST, SIZES, decode_raw

MAX_PLANS = 8
"""Kinds of requests that are known for one spec; the others are read the general way."""
MAX_TENSORS = 100
"""A plan is compiled between two requests, at 0.2 ms a tensor."""
OWN_NAMES = ("id", "entity", "time")
"""What an observation has beside its fields: parameters of a request, or tensors where no field has the name."""
UNSET = msgspec.UNSET
_Text = Annotated[str, msgspec.Meta(min_length=1)] | None | msgspec.UnsetType
_OneRow = Annotated[list[Literal[1]], msgspec.Meta(min_length=1, max_length=2)]


class _Parameters(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    id: _Text = UNSET
    entity: _Text = UNSET
    time: _Text = UNSET
    binary_data_output: bool | msgspec.UnsetType | None = UNSET


_NO_PARAMETERS = _Parameters()


class PlannedRow(NamedTuple):
    """A request that fits the loop, but for its time, which is not compared with the clock."""

    observation: Observation
    id: str | None
    outputs: list[Any] | None
    in_binary: bool
    """Whether the outputs are wanted in binary."""


@dataclass(frozen=True)
class RequestPlan:
    """Reads the requests with certain tensors: these names and datatypes in this order, all in JSON or all in binary.

    `places` says which tensor has each field, `own` which has the id, the entity or the time, and `floats` which are of
    floats. `raw` unpacks all values in binary; None where one has to be read by itself, such as a text.
    """

    tensors: Sequence[tuple[str, str]]
    in_binary: bool
    decoder: msgspec.json.Decoder[Any]
    values: type[msgspec.Struct]
    raw: struct.Struct | None
    floats: Sequence[int]
    places: Sequence[tuple[str, int]]
    own: Mapping[str, int]
    observations: ObservationDecoder

    def read(self, text: bytes, binary: memoryview) -> PlannedRow | None:
        """The row of a request; None where it has other tensors, or is not accepted for whatever reason."""
        try:
            request = self.decoder.decode(text)
            values = self._unpack(request.inputs, binary) if self.in_binary else [t.data[0] for t in request.inputs]
        except (ValueError, RecursionError, struct.error):
            return None
        if len(self.tensors) * (4 + self.in_binary) + _count_keys_beside(request) != count_keys(text):
            return None  # a key is there twice
        values.append(None)  # of the fields without a tensor
        fields = {name: values[place] for name, place in self.places}
        for name, accepted in self.observations.enums:
            if fields[name] not in accepted and fields[name] is not None:
                return None
        given = request.parameters or _NO_PARAMETERS
        id, entity, time = given.id or request.id, given.entity, given.time
        if self.own:
            own = {name: values[place] for name, place in self.own.items()}
            id, entity, time = own.get("id", id), own.get("entity", entity), own.get("time", time)
        row = self.observations.add_names(fields, id or None, entity or None, time or None)
        if row is None:
            return None
        return PlannedRow(row, request.id or None, request.outputs or None, given.binary_data_output is True)

    def _unpack(self, tensors: Sequence[Any], binary: memoryview) -> list[Any]:
        """The values of tensors in binary; raises ValueError or struct.error."""
        if self.raw:
            found: Sequence[Any] = self.raw.unpack(binary)
        else:
            found, position = [], 0
            for tensor in tensors:
                end = position + tensor.parameters.binary_data_size
                found += decode_raw(tensor.datatype, binary[position:end], 1)
                position = end
            if position != len(binary):
                raise ValueError
        values = list(astuple(msgspec.convert(found, self.values)))
        if self.floats and not math.isfinite(sum([values[n] for n in self.floats])):
            raise ValueError
        return values


def _count_keys_beside(request: Any) -> int:
    """How many keys a request has beside those of its tensors."""
    keys = 1 + (request.id is not UNSET) + (request.parameters is not UNSET) + (request.outputs is not UNSET)
    if given := request.parameters:
        keys += (given.id is not UNSET) + (given.entity is not UNSET)
        keys += (given.time is not UNSET) + (given.binary_data_output is not UNSET)
    return keys + count_output_keys(request.outputs)


def count_output_keys(outputs: Sequence[Any] | msgspec.UnsetType | None) -> int:
    """How many keys the outputs that a request asks for have."""
    keys = 0
    for output in outputs or ():
        if type(output) is dict:
            given = output.get("parameters")
            keys += len(output) + (len(given) if type(given) is dict else 0)
    return keys


class InferencePlans:
    """The plans of the requests that came for one spec, the latest first, and the forms of their answers."""

    def __init__(self) -> None:
        self._plans: list[RequestPlan] = []
        self.answers: dict[tuple[bool, bool], bytes] = {}

    def read(self, text: bytes, binary: memoryview) -> PlannedRow | None:
        """The row of a request of a known kind; None leaves it to the general way."""
        for n, plan in enumerate(self._plans):
            if plan.in_binary == (len(binary) > 0) and (row := plan.read(text, binary)):
                if n:
                    self._plans.insert(0, self._plans.pop(n))
                return row
        return None

    def learn(
        self, spec: LoopSpec, observations: ObservationDecoder, tensors: Sequence[tuple[str, str]], in_binary: bool
    ) -> None:
        """Read further requests with these tensors, of which one was accepted, by a plan."""
        if len(self._plans) >= MAX_PLANS or len(tensors) > MAX_TENSORS:
            return
        if any(plan.tensors == tensors and plan.in_binary == in_binary for plan in self._plans):
            return
        if plan := compile_plan(spec, observations, tensors, in_binary):
            self._plans.insert(0, plan)


def compile_plan(
    spec: LoopSpec, observations: ObservationDecoder, tensors: Sequence[tuple[str, str]], in_binary: bool
) -> RequestPlan | None:
    """The plan for requests with these tensors; None where a value may have to be converted to fit its field."""
    kinds = [_kind(spec.fields.get(name), datatype) for name, datatype in tensors]
    if None in kinds:
        return None
    declared: Any = tuple(
        _declare_tensor(name, datatype, kind, in_binary) for (name, datatype), kind in zip(tensors, kinds, strict=True)
    )
    at = {name: i for i, (name, _) in enumerate(tensors)}
    codes = [FORMATS[datatype] if datatype in _UNPACKED else "" for _, datatype in tensors]
    return RequestPlan(
        tensors=tensors,
        in_binary=in_binary,
        decoder=msgspec.json.Decoder(_declare_request(declared)),
        values=_declare_values(kinds),
        raw=struct.Struct("<" + "".join(codes)) if all(codes) else None,
        floats=[i for i, (_, datatype) in enumerate(tensors) if datatype in FLOATS],
        places=[(name, at.get(name, len(tensors))) for name in spec.fields],
        own={name: at[name] for name in OWN_NAMES if name in at and name not in spec.fields},
        observations=observations,
    )


_UNPACKED = frozenset(FORMATS) - {"BOOL", "BF16"}
"""The datatypes whose values are what `struct` unpacks."""


def _declare_request(tensors: tuple[type, ...]) -> type[msgspec.Struct]:
    inputs: Any = tuple[tensors]  # type: ignore[valid-type]
    members: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("inputs", inputs),
        ("id", _Text, UNSET),
        ("parameters", _Parameters | None | msgspec.UnsetType, UNSET),
        ("outputs", list[Any] | None | msgspec.UnsetType, UNSET),
    ]
    return msgspec.defstruct("PlannedRequest", members, forbid_unknown_fields=True, gc=False)


def _declare_values(kinds: Sequence[Any]) -> type[msgspec.Struct]:
    """The values of all tensors; a struct, because msgspec remembers how to read it, and a tuple it does not."""
    members = [(f"v{i}", kind) for i, kind in enumerate(kinds)]
    return msgspec.defstruct("PlannedValues", members, array_like=True, forbid_unknown_fields=True, gc=False)


def _declare_tensor(name: str, datatype: str, kind: Any, in_binary: bool) -> Any:
    """The type of a tensor with one value."""
    members: list[tuple[str, Any]] = [("name", Literal[name]), ("datatype", Literal[datatype]), ("shape", _OneRow)]
    if in_binary:
        size = Literal[SIZES[datatype]] if datatype in SIZES else Annotated[int, msgspec.Meta(ge=4)]
        parameters = msgspec.defstruct("Binary", [("binary_data_size", size)], forbid_unknown_fields=True, gc=False)
        members.append(("parameters", parameters))
    else:
        members.append(("data", tuple[kind]))
    return msgspec.defstruct("PlannedTensor", members, forbid_unknown_fields=True, gc=False)


def _kind(field: FieldSpec | None, datatype: str) -> Any:
    """The type of the values that are of the datatype and fit the field, or a name; None where others may fit too."""
    kind: Any = None
    if field is None:
        return Annotated[str, msgspec.Meta(min_length=1)] if datatype == "BYTES" else None
    if field.type == "string" and datatype == "BYTES":
        kind = Annotated[str, msgspec.Meta(max_length=STRING_LIMIT)]
    elif field.type == "boolean" and datatype == "BOOL":
        kind = bool
    elif field.type == "number" and datatype in FLOATS:
        largest = LARGEST.get(datatype, sys.float_info.max)
        lowest, highest = _within(field, -largest, largest)
        kind = Annotated[float, msgspec.Meta(ge=lowest, le=highest)] if lowest <= highest else None
    elif field.type in ("number", "integer") and datatype in INTEGERS:
        lowest, highest = INTEGERS[datatype]
        lowest, highest = _within(field, max(lowest, 1 - INTEGER_LIMIT), min(highest, INTEGER_LIMIT - 1))
        lowest, highest = math.ceil(lowest), math.floor(highest)
        kind = Annotated[int, msgspec.Meta(ge=lowest, le=highest)] if lowest <= highest else None
    return None if kind is None else kind if field.missing == "refuse" else kind | None


def _within(field: FieldSpec, lowest: Any, highest: Any) -> tuple[Any, Any]:
    return (
        lowest if field.min is None else max(lowest, field.min),
        highest if field.max is None else min(highest, field.max),
    )
