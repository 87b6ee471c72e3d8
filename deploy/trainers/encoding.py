"""How a row becomes the vector that a model takes, and the same encoding as ONNX nodes in front of the model.

All trainers use it, so that a model is served with exactly what it was trained on: every feature is an input of its
own, missing numbers become the mean, numbers are scaled, and texts are one-hot (a text that was not in the data set,
or is missing, is all zeros).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MAX_TEXTS = 50
"""The most frequent texts of a feature that are told apart."""
OPSET = 15


@dataclass
class Encoding:
    """What becomes of each number and each text. The vector has a column for each number, then one for each text."""

    numbers: list[str]
    texts: dict[str, list[str]]
    means: np.ndarray[Any, Any]
    scales: np.ndarray[Any, Any]

    def wrap(self, model: bytes) -> bytes:
        """The model, an ONNX file whose one input is the vector, behind the encoding of features."""
        inner = onnx.compose.add_prefix(onnx.load_model_from_string(model), "model/")
        nodes, weights, inputs, parts = [], [], [], []

        def constant(name: str, value: np.ndarray[Any, Any]) -> str:
            weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
            return name

        if self.numbers:
            inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in self.numbers]
            nodes += [
                helper.make_node("Concat", self.numbers, ["encode/numbers"], axis=1),
                helper.make_node("IsNaN", ["encode/numbers"], ["encode/missing"]),
                helper.make_node(
                    "Where",
                    ["encode/missing", constant("encode/means", self.means), "encode/numbers"],
                    ["encode/filled"],
                ),
                helper.make_node("Sub", ["encode/filled", "encode/means"], ["encode/centred"]),
                helper.make_node("Div", ["encode/centred", constant("encode/scales", self.scales)], ["encode/scaled"]),
            ]
            parts.append("encode/scaled")
        for name, known in self.texts.items():
            inputs.append(helper.make_tensor_value_info(name, TensorProto.STRING, [None, 1]))
            one_hot = helper.make_node(
                "OneHotEncoder", [name], [f"encode/{name}/each"], domain="ai.onnx.ml", cats_strings=known, zeros=1
            )
            nodes += [one_hot, helper.make_node("Flatten", [f"encode/{name}/each"], [f"encode/{name}"], axis=1)]
            parts.append(f"encode/{name}")
        nodes.append(helper.make_node("Concat", parts, [inner.graph.input[0].name], axis=1))
        graph = helper.make_graph(
            [*nodes, *inner.graph.node],
            "trainer",
            inputs,
            list(inner.graph.output),
            [*weights, *inner.graph.initializer],
        )
        versions = {"": OPSET, "ai.onnx.ml": 2} | {o.domain: o.version for o in inner.opset_import}
        opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())
