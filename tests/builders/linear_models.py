"""Small ONNX models for tests, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def logistic_onnx(weights: Sequence[float], bias: float = 0.0, *, name: str = "logistic", opset: int = 17) -> bytes:
    """A binary classifier over one float tensor: probability of the second class is sigmoid(x · weights + bias)."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Add", ["scores", "b"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
    ]
    constants = {
        "w": np.array(weights, np.float32).reshape(-1, 1),
        "b": np.array([bias], np.float32),
        "one": np.array([1.0], np.float32),
    }
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])]
    return _model(nodes, constants, len(weights), outputs, name, opset)


def linear_onnx(weights: Sequence[float], bias: float = 0.0, *, name: str = "linear", opset: int = 17) -> bytes:
    """A regression over one float tensor."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["value"]),
    ]
    constants = {"w": np.array(weights, np.float32).reshape(-1, 1), "b": np.array([bias], np.float32)}
    outputs = [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])]
    return _model(nodes, constants, len(weights), outputs, name, opset)


def _model(
    nodes: list[Any], constants: dict[str, Any], columns: int, outputs: list[Any], name: str, opset: int
) -> bytes:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, columns])]
    weights = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
