"""Real ONNX files made with `onnx.helper`: small networks, and whatever a test needs to be wrong in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from everloop_features import compile_features
from everloop_models.formats.onnx.interface import GivenInterface
from everloop_models.formats.onnx.normalise import NormalisedModel, normalise
from everloop_schemas.loop import LoopSpec

OPSET = 17
FLOAT, DOUBLE, INT64, STRING, BOOL = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.STRING,
    TensorProto.BOOL,
)


def port(name: str, kind: int = FLOAT, shape: Sequence[int | str | None] = (None, 1)) -> onnx.ValueInfoProto:
    """An input or output of a graph."""
    return helper.make_tensor_value_info(name, kind, list(shape))


def weights(name: str, values: Any, kind: int = FLOAT, dims: Sequence[int] | None = None) -> onnx.TensorProto:
    """An initialiser from a flat list."""
    return helper.make_tensor(name, kind, list(dims or (len(values),)), values)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initialisers: Sequence[onnx.TensorProto] = (),
    opsets: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """A model with these parts."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initialisers))
    sets = {"": OPSET, "ai.onnx.ml": 3} | (opsets or {})
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*each) for each in sets.items()], ir_version=8)


def network(columns: int, classes: int, last: str = "Softmax", rows: int | None = None) -> onnx.ModelProto:
    """One layer from `columns` features to `classes` probabilities; `last` is what follows it, such as Sigmoid."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["scores"]),
        helper.make_node(last, ["scores"], ["y"]),
    ]
    w = weights("w", [0.5 - (i % 7) / 7 for i in range(columns * classes)], dims=(columns, classes))
    b = weights("b", [0.1 * i for i in range(classes)])
    return model(nodes, [port("x", FLOAT, (rows, columns))], [port("y", FLOAT, (rows, classes))], [w, b])


def linear(columns: int) -> onnx.ModelProto:
    """A regression: the weighted sum of its features, 1 of the first, 2 of the second, and so on."""
    w = weights("w", [float(i + 1) for i in range(columns)], dims=(columns, 1))
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], [port("x", FLOAT, (None, columns))], [port("y")], [w])


def logistic_onnx(coefficients: Sequence[float], bias: float = 0.0) -> bytes:
    """A binary classifier as a file: the probability of the second class is sigmoid(x · coefficients + bias)."""
    columns = len(coefficients)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Add", ["scores", "b"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
    ]
    constants = [weights("w", coefficients, dims=(columns, 1)), weights("b", [bias]), weights("one", [1.0])]
    made = model(nodes, [port("x", FLOAT, (None, columns))], [port("probabilities", FLOAT, (None, 2))], constants)
    return bytes(made.SerializeToString())


def normalised(made: onnx.ModelProto | bytes, spec: LoopSpec, given: GivenInterface | None = None) -> NormalisedModel:
    """The artifact for a loop."""
    plan = compile_features(spec)
    data = made if isinstance(made, bytes) else made.SerializeToString()
    return normalise(data, spec, plan.names, plan.texts, given or GivenInterface())
