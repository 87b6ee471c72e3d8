"""Finds the classes of an ONNX classifier in its graph, in the order of the columns of its probabilities."""

from __future__ import annotations

import onnx

from everloop_models.errors import ArtifactCorrupt
from everloop_models.formats.onnx.interface import ClassLabel
from everloop_models.formats.onnx.texts import quoted

Labels = tuple[ClassLabel, ...]
_LISTS = ("classlabels_int64s", "classlabels_ints", "classlabels_strings")
_SAME_VALUES = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators behind a classifier that leave the order of its classes as it is."""
MAX_CLASSES = 10_000


def remove_zipmap(graph: onnx.GraphProto) -> Labels | None:
    """Let the tensor behind a ZipMap be the output in its place; returns the classes that it names.

    A ZipMap makes a dictionary for each row, which costs more than most models.
    """
    outputs = {each.name: each for each in graph.output}
    for node in list(graph.node):
        if node.op_type != "ZipMap" or node.output[0] not in outputs:
            continue
        found = outputs[node.output[0]]
        labels = _listed_in(node)
        found.name = node.input[0]
        found.type.Clear()
        found.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        for size in (None, len(labels)):
            dimension = found.type.tensor_type.shape.dim.add()
            if size is not None:
                dimension.dim_value = size
        graph.node.remove(node)
        return labels
    return None


def find_labels(graph: onnx.GraphProto, output: str) -> Labels | None:
    """The values that a label output takes, where its classifier lists them; None where it does not."""
    makers = {name: node for node in graph.node for name in node.output if name}
    constants = {each.name: each for each in graph.initializer}
    name, seen = output, set[str]()
    while name in makers and name not in seen:
        seen.add(name)
        node = makers[name]
        if any(each.name in _LISTS for each in node.attribute):
            return _listed_in(node)
        if node.op_type in ("ArrayFeatureExtractor", "Gather"):
            return _constant(node.input[0], makers, constants)
        if node.op_type == "LabelEncoder":
            return _encoded(node)
        if node.op_type not in _SAME_VALUES or not node.input:
            return None
        name = node.input[0]
    return None


def _listed_in(node: onnx.NodeProto) -> Labels:
    for each in node.attribute:
        if each.name in _LISTS and (each.ints or each.strings):
            return _few(tuple(each.ints) or tuple(map(_text, each.strings)))
    raise ArtifactCorrupt(f"the operator {quoted(node.op_type)} lists no classes: export the model again")


def _constant(name: str, makers: dict[str, onnx.NodeProto], constants: dict[str, onnx.TensorProto]) -> Labels | None:
    tensor = constants.get(name)
    node = makers.get(name)
    if tensor is None and node is not None and node.op_type == "Constant":
        tensor = next((each.t for each in node.attribute if each.name == "value"), None)
    if tensor is None or len(tensor.dims) > 2 or tensor.data_type not in _KINDS:
        return None
    values = onnx.numpy_helper.to_array(tensor).ravel().tolist()
    return _few(tuple(_text(v) if isinstance(v, bytes) else v for v in values))


_KINDS = {onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL, onnx.TensorProto.STRING}


def _encoded(node: onnx.NodeProto) -> Labels | None:
    """The values of an encoder whose keys are 0, 1, 2..., which are numbers of columns."""
    of = {each.name: each for each in node.attribute}
    keys = list(of["keys_int64s"].ints) if "keys_int64s" in of else []
    values = [*of["values_strings"].strings] if "values_strings" in of else []
    if keys != [*range(len(keys))] or len(keys) != len(values) or not keys:
        return None
    return _few(tuple(map(_text, values)))


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _few(labels: Labels) -> Labels:
    if len(labels) > MAX_CLASSES:
        raise ArtifactCorrupt(f"it has {len(labels):,} classes; at most {MAX_CLASSES:,} are taken")
    return labels
