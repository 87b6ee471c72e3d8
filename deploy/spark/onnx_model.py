"""A model of Spark ML as an ONNX file: its coefficients, or its trees, for one input with the vector of a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from encoding import OPSET
from onnx import NodeProto, TensorProto, helper, numpy_helper
from pyspark.ml.classification import GBTClassificationModel, LogisticRegressionModel, RandomForestClassificationModel
from pyspark.ml.regression import GBTRegressionModel, LinearRegressionModel, RandomForestRegressionModel


def to_onnx(model: Any) -> bytes:
    """The file. A classifier has the output `probabilities`, of one column for two classes, a regression `value`."""
    graph = _Graph()
    if isinstance(model, LinearRegressionModel):
        graph.linear(model.coefficients.toArray().reshape(1, -1), [model.intercept], "value")
    elif isinstance(model, LogisticRegressionModel):
        _add_logistic(graph, model)
    elif isinstance(model, GBTRegressionModel):
        graph.trees(_weighted_trees(model), 1, "value")
    elif isinstance(model, GBTClassificationModel):
        graph.trees(_weighted_trees(model), 1, "margin")
        graph.node("Mul", ["margin", graph.constant("two", [2.0])], "doubled")
        graph.node("Sigmoid", ["doubled"], "probabilities")
    elif isinstance(model, RandomForestRegressionModel):
        trees = [_Tree(tree, lambda leaf, n=model.getNumTrees: [leaf.prediction() / n]) for tree in _roots(model)]
        graph.trees(trees, 1, "value")
    elif isinstance(model, RandomForestClassificationModel):
        trees = [_Tree(tree, lambda leaf, n=model.getNumTrees: _votes(leaf, n)) for tree in _roots(model)]
        graph.trees(trees, model.numClasses, "probabilities")
    else:
        raise TypeError(f"{type(model).__name__} has no form in ONNX here")
    return graph.file(model.numFeatures)


def _add_logistic(graph: _Graph, model: LogisticRegressionModel) -> None:
    if model.numClasses == 2:
        graph.linear(model.coefficients.toArray().reshape(1, -1), [model.intercept], "margin")
        graph.node("Sigmoid", ["margin"], "probabilities")
    else:
        graph.linear(model.coefficientMatrix.toArray(), model.interceptVector.toArray(), "margins")
        graph.node("Softmax", ["margins"], "probabilities", axis=1)


class _Graph:
    """The nodes of the file, from input `x` to the output that was added last."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._columns = 1

    def constant(self, name: str, values: Any) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    def linear(self, coefficients: Any, intercepts: Any, output: str) -> None:
        self._columns = len(coefficients)
        inputs = ["x", self.constant("coefficients", coefficients), self.constant("intercepts", intercepts)]
        self.node("Gemm", inputs, output, transB=1)

    def trees(self, trees: list[_Tree], targets: int, output: str) -> None:
        self._columns = targets
        attributes: dict[str, list[Any]] = {}
        for number, tree in enumerate(trees):
            for name, values in tree.attributes(number).items():
                attributes.setdefault(name, []).extend(values)
        self.node("TreeEnsembleRegressor", ["x"], output, domain="ai.onnx.ml", n_targets=targets, **attributes)

    def file(self, features: int) -> bytes:
        [output] = self._nodes[-1].output
        graph = helper.make_graph(
            self._nodes,
            "spark",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, features])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None, self._columns])],
            self._constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 2)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return bytes(model.SerializeToString())


class _Tree:
    """A tree in the form of ONNX, its nodes in the order in which they are found."""

    def __init__(self, root: Any, weights_of_leaf: Any) -> None:
        self._nodes: list[dict[str, Any]] = []
        self._leaves: list[tuple[int, list[float]]] = []
        self._weights_of_leaf = weights_of_leaf
        self._add(root)

    def attributes(self, number: int) -> dict[str, list[Any]]:
        """Those of TreeEnsembleRegressor, for tree `number`."""
        targets = [
            (node, target, weight) for node, weights in self._leaves for target, weight in enumerate(weights) if weight
        ]
        return {
            "nodes_treeids": [number] * len(self._nodes),
            "nodes_nodeids": list(range(len(self._nodes))),
            **{f"nodes_{key}": [node[key] for node in self._nodes] for key in self._nodes[0]},
            "target_treeids": [number] * len(targets),
            "target_nodeids": [node for node, _, _ in targets],
            "target_ids": [target for _, target, _ in targets],
            "target_weights": [weight for _, _, weight in targets],
        }

    def _add(self, root: Any) -> None:
        """Add the nodes below a node of the Java virtual machine; without recursion, as a tree may be deep."""
        waiting = [(root, -1, "")]
        while waiting:
            node, parent, side = waiting.pop()
            number = len(self._nodes)
            if parent >= 0:
                self._nodes[parent][side] = number
            if node.subtreeDepth() == 0:
                self._nodes.append(_node("LEAF"))
                self._leaves.append((number, self._weights_of_leaf(node)))
                continue
            split = node.split()
            self._nodes.append(_node("BRANCH_LEQ", split.featureIndex(), _float_below(split.threshold())))
            waiting += [(node.rightChild(), number, "falsenodeids"), (node.leftChild(), number, "truenodeids")]


def _node(mode: str, feature: int = 0, value: float = 0.0) -> dict[str, Any]:
    return {"modes": mode, "featureids": feature, "values": value, "truenodeids": 0, "falsenodeids": 0}


def _float_below(threshold: float) -> float:
    """The largest float that is no larger: a float is at most this one if it is at most the threshold."""
    nearest = np.float32(threshold)
    return float(nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf)))


def _roots(model: Any) -> Iterator[Any]:
    return (tree._java_obj.rootNode() for tree in model.trees)  # noqa: SLF001  # PySpark has no other way to a tree's nodes


def _weighted_trees(model: Any) -> list[_Tree]:
    pairs = zip(_roots(model), model.treeWeights, strict=True)
    return [_Tree(root, lambda leaf, weight=weight: [leaf.prediction() * weight]) for root, weight in pairs]


def _votes(leaf: Any, trees: int) -> list[float]:
    """The share of each class in a leaf, of which every tree of a forest has the same weight."""
    counts = list(leaf.impurityStats().stats())
    return [count / sum(counts) / trees for count in counts]
