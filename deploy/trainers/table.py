"""A data set as the matrix that a network takes, and the same encoding as ONNX nodes in front of the network.

Both trainers use it, so that a network is served with exactly what it was trained on: every feature is an input of its
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
class Table:
    """The rows: `x` as floats, `y` as class numbers or values; and how a row becomes one of `x`."""

    numbers: list[str]
    texts: dict[str, list[str]]
    means: np.ndarray[Any, Any]
    scales: np.ndarray[Any, Any]
    classes: list[Any] | None
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]

    @classmethod
    def of(cls, data_set: Any, task: str, classes: list[Any] | None) -> Table:
        """Read a data set. Raises ValueError where there is nothing to learn."""
        rows = list(data_set)
        numbers = [name for name, kind in data_set.features.items() if kind != "string"]
        texts = {
            name: _most_frequent([row.features.get(name) for row in rows])
            for name, kind in data_set.features.items()
            if kind == "string"
        }
        values = np.array([[_number(row.features.get(name)) for name in numbers] for row in rows], np.float32)
        values = values.reshape(len(rows), len(numbers))
        with np.errstate(all="ignore"):
            means = np.nan_to_num(np.array([np.nanmean(c) if np.isfinite(c).any() else 0.0 for c in values.T]))
        filled = np.where(np.isnan(values), means, values) if numbers else values
        scales = filled.std(axis=0) if numbers else np.zeros(0)
        scales = np.where(scales > 0, scales, 1.0)
        columns = [(filled - means) / scales]
        for name, known in texts.items():
            given = np.array([row.features.get(name) for row in rows], object)
            columns.append(
                np.array([[text == each for each in known] for text in given], float).reshape(-1, len(known))
            )
        labels = [row.label for row in rows]
        if task == "regression":
            classes, y = None, np.array([float(label) for label in labels], np.float32)
        else:
            classes = classes or sorted({*labels}, key=lambda label: (str(type(label)), label))
            if len({*labels}) < 2:
                raise ValueError("the data set has outcomes of one class only")
            y = np.array([classes.index(label) for label in labels], np.int64)
        x = np.concatenate(columns, axis=1).astype(np.float32)
        return cls(numbers, texts, np.asarray(means, np.float32), np.asarray(scales, np.float32), classes, x, y)

    def wrap(self, network: bytes) -> bytes:
        """The network, an ONNX file with one input for a row of `x`, behind the encoding of features."""
        inner = onnx.compose.add_prefix(onnx.load_model_from_string(network), "network/")
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

    def split(self) -> tuple[slice, slice]:
        """The rows to learn from, and the last fifth, to measure on."""
        cut = max(1, len(self.x) - max(1, len(self.x) // 5))
        return slice(0, cut), slice(cut, None)

    def metrics(self, predicted: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> dict[str, float]:
        """Accuracy and log loss of probabilities, or the mean absolute error of values."""
        if self.classes is None:
            return {"mae": float(np.abs(predicted.reshape(-1) - expected).mean())}
        right = predicted[np.arange(len(expected)), expected]
        return {
            "accuracy": float((predicted.argmax(axis=1) == expected).mean()),
            "log_loss": float(-np.log(np.clip(right, 1e-9, 1.0)).mean()),
        }


def _most_frequent(values: list[Any]) -> list[str]:
    counts: dict[str, int] = {}
    for value in values:
        if isinstance(value, str):
            counts[value] = counts.get(value, 0) + 1
    return sorted(counts, key=lambda text: (-counts[text], text))[:MAX_TEXTS] or [""]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
