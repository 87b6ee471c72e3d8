"""The inputs and outputs of an ONNX graph, as far as models of tables have them."""

from __future__ import annotations

from typing import NamedTuple

import onnx

from everloop_models.errors import ArtifactCorrupt
from everloop_models.formats.onnx.texts import quoted

TYPES = {1: "float", 11: "double", 7: "int64", 6: "int32", 9: "bool", 8: "string"}
"""By the number that ONNX gives them."""


class Port(NamedTuple):
    """A tensor that goes in or comes out. `dimensions` are None where nothing is said, each None where it varies."""

    name: str
    type: str
    dimensions: tuple[int | None, ...] | None

    @property
    def columns(self) -> int | None:
        """How many columns it has, None where that is not said; 1 for a tensor of rows alone."""
        if self.dimensions is None:
            return None
        return 1 if len(self.dimensions) == 1 else self.dimensions[1]

    @property
    def is_flat(self) -> bool:
        """Whether it has a dimension for rows alone."""
        return self.dimensions is not None and len(self.dimensions) == 1


def inputs_of(graph: onnx.GraphProto) -> list[Port]:
    """What must be fed; raises ArtifactCorrupt for what is no table."""
    weights = {each.name for each in graph.initializer}
    return [_port(each, "input") for each in graph.input if each.name not in weights]


def outputs_of(graph: onnx.GraphProto) -> list[Port]:
    """What comes out, without what is no tensor of one or two dimensions."""
    found = []
    for each in graph.output:
        try:
            found.append(_port(each, "output"))
        except ArtifactCorrupt:
            continue
    return found


def _port(info: onnx.ValueInfoProto, kind: str) -> Port:
    what = f"its {kind} {quoted(info.name)}"
    if not info.type.HasField("tensor_type"):
        raise ArtifactCorrupt(f"{what} is no tensor: export the model with tensors")
    tensor = info.type.tensor_type
    element = TYPES.get(tensor.elem_type)
    if element is None:
        known = ", ".join(TYPES.values())
        raise ArtifactCorrupt(f"{what} has elements of type {_type_name(tensor.elem_type)}: cast it to one of {known}")
    dimensions = None
    if tensor.HasField("shape"):
        dimensions = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        if len(dimensions) not in (1, 2):
            fix = "a model of a loop takes rows and columns"
            raise ArtifactCorrupt(f"{what} has {len(dimensions)} dimensions; {fix}: export it with one or two")
    return Port(info.name, element, dimensions)


def _type_name(number: int) -> str:
    return str(onnx.TensorProto.DataType.Name(number)).lower() if number in onnx.TensorProto.DataType.values() else "?"
