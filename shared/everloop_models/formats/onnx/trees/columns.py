"""Follows features through the operators in front of a tree ensemble, as long as each column is of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx

from everloop_models.formats.onnx.interface import Interface
from everloop_models.formats.onnx.trees.nodes import Array, attributes_of

Owners = tuple[str, ...]
"""The feature of each column of a row."""
MAX_COLUMNS = 20_000
_EACH_BY_ITSELF = {"Identity", "Cast", "Imputer", "Scaler", "LabelEncoder"}
"""Operators that make each column of the same column."""
_PICKS = {"Gather", "ArrayFeatureExtractor"}


def find_owners(graph: onnx.GraphProto, interface: Interface) -> dict[str, Owners]:
    """By tensor, the feature that each of its columns is of; tensors where that is not known are left out."""
    constants = constants_of(graph)
    owners = {each.name: each.features for each in interface.inputs}
    for node in graph.node:
        made = _owners_after(node, owners, constants)
        if made is not None and len(made) <= MAX_COLUMNS:
            owners[node.output[0]] = made
    return owners


def constants_of(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The constants of a graph by name."""
    made = [(node.output[0], attributes_of(node)) for node in graph.node if node.op_type == "Constant"]
    known = {each.name: each for each in graph.initializer}
    return known | {name: given["value"].t for name, given in made if "value" in given}


def _owners_after(
    node: onnx.NodeProto, owners: Mapping[str, Owners], constants: Mapping[str, onnx.TensorProto]
) -> Owners | None:
    if not node.input or node.input[0] not in owners or len(node.output) != 1:
        return None
    given, before = attributes_of(node), owners[node.input[0]]
    if node.op_type in _EACH_BY_ITSELF:
        return before
    if node.op_type == "FeatureVectorizer" or (node.op_type == "Concat" and given["axis"].i == 1):
        parts = [owners.get(name) for name in node.input]
        return None if None in parts else tuple(name for part in parts for name in part or ())
    if node.op_type == "OneHotEncoder":
        count = max(len(given[name].strings or given[name].ints) for name in given if name.startswith("cats_"))
        return tuple(name for name in before for _ in range(count))
    if node.op_type == "Flatten" and ("axis" not in given or given["axis"].i == 1):
        return before
    numbers = _numbers_in(constants.get(node.input[1])) if len(node.input) == 2 else None
    if numbers is None:
        return None
    if node.op_type == "Reshape":
        return before if numbers[0] in (-1, 0) and prod(numbers[1:].tolist()) == len(before) else None
    if node.op_type in _PICKS and (node.op_type != "Gather" or ("axis" in given and given["axis"].i == 1)):
        return tuple(before[int(i)] for i in numbers) if ((numbers >= 0) & (numbers < len(before))).all() else None
    return None


def _numbers_in(tensor: onnx.TensorProto | None) -> Array | None:
    if tensor is None or tensor.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
        return None
    numbers = np.asarray(onnx.numpy_helper.to_array(tensor)).ravel()
    return numbers if 0 < len(numbers) <= MAX_COLUMNS else None


def cut_before(model: onnx.ModelProto, name: str) -> bytes:
    """The part of a model that makes this tensor, as a file of its own."""
    part = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    needed, nodes = {name}, list[onnx.NodeProto]()
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    part.graph.name = "columns"
    part.graph.node.extend(reversed(nodes))
    part.graph.input.extend(each for each in model.graph.input if each.name in needed)
    part.graph.initializer.extend(each for each in model.graph.initializer if each.name in needed)
    part.graph.output.append(onnx.ValueInfoProto(name=name))
    return bytes(part.SerializeToString())
