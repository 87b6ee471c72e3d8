"""What the leaves of an ONNX tree ensemble are worth for a class or a value, and what follows from their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import NamedTuple

import numpy as np
import onnx

from everloop_models.explain.attribution import Scale
from everloop_models.formats.onnx.trees.nodes import Array, NodeIndex, NotSupported, fractions, read_nodes, whole

MAX_CLASSES = 100


class Terms(NamedTuple):
    """A score as a sum over outputs: an offset, and outputs with the factor that each is counted with."""

    scale: Scale
    offset: float
    outputs: tuple[tuple[int, float], ...]


class Worth:
    """The worth of leaves, by output and leaf: what the ensemble's operator adds to its outputs.

    `post` is what it does with the sums. A `lone` ensemble tells two classes apart by one output, the second one's. A
    value is multiplied with `factor`.
    """

    def __init__(self, node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto], factor: float = 1.0) -> None:
        self.nodes, index = read_nodes(given)
        self.post = given["post_transform"].s.decode() if "post_transform" in given else "NONE"
        self.is_classifier = node.op_type == "TreeEnsembleClassifier"
        kind = "class" if self.is_classifier else "target"
        self.count = _count_outputs(given, self.is_classifier)
        ids = whole(given, f"{kind}_ids")
        if self.is_classifier and factor != 1.0:
            raise NotSupported("probabilities times a number")
        self._read_leaves(given, kind, ids, index, factor)
        self.lone = self.is_classifier and self.count == 2 and len(np.unique(ids)) == 1
        self._base = fractions(given, "base_values").astype(np.float64) * factor
        if len(self._base) not in ((0, 1, 2) if self.lone else (0, self.count)):
            raise NotSupported("other base values than outputs")

    def _read_leaves(
        self, given: Mapping[str, onnx.AttributeProto], kind: str, ids: Array, index: NodeIndex, factor: float
    ) -> None:
        factor *= _factor(given, index.tree_count)
        at = index.positions(whole(given, f"{kind}_treeids"), whole(given, f"{kind}_nodeids"))
        weights = fractions(given, f"{kind}_weights").astype(np.float64) * factor
        if not len(at) == len(ids) == len(weights) or not len(ids) or ids.min() < 0 or ids.max() >= self.count:
            raise NotSupported("leaves of no output")
        keys, entry = np.unique(ids * len(self.nodes.mode) + at, return_inverse=True)
        self._keys, self._weights = keys, np.bincount(entry, weights)
        trees = np.unique(ids * index.tree_count + index.tree_of[at])
        by_tree = np.sort(index.tree_of[self.nodes.roots])
        assert len(by_tree) == index.tree_count, "each tree has one root"
        root_of = np.empty(index.tree_count, dtype=np.int32)
        root_of[index.tree_of[self.nodes.roots]] = self.nodes.roots
        outputs, numbers = np.divmod(trees, index.tree_count)
        self._roots = {int(each): root_of[numbers[outputs == each]] for each in np.unique(outputs)}

    def roots_of(self, terms: Terms) -> Array:
        """The roots of the trees that say anything about the score."""
        found = [self._roots[each] for each, _ in terms.outputs if each in self._roots]
        return np.unique(np.concatenate(found)) if found else self.nodes.roots[:0]

    def weigh(self, at: Array, terms: Terms) -> Array:
        """What the leaves at these positions add to the score."""
        total = np.zeros(len(at))
        for output, factor in terms.outputs:
            keys = at + output * len(self.nodes.mode)
            found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
            total += np.where(self._keys[found] == keys, factor * self._weights[found], 0.0)
        return total

    def score(self, row: Array, terms: Terms) -> float:
        """The score of a row."""
        leaves = self.nodes.leaves_of(row, self.roots_of(terms))
        return terms.offset + float(self.weigh(leaves, terms).sum())

    def terms_of(self, output: int) -> Terms:
        """The score of the class in this column of the probabilities, or of the value (0); raises NotSupported."""
        if not self.is_classifier:
            if self.post != "NONE" or self.count != 1:
                raise NotSupported("other than one value")
            return Terms("value", self._offset(0), ((0, 1.0),))
        if self.lone:
            return self._terms_of_lone(output)
        if self.post == "SOFTMAX" and self.count == 2:
            other = 1 - output
            return Terms("log_odds", self._offset(output) - self._offset(other), ((output, 1.0), (other, -1.0)))
        scales: dict[str, Scale] = {"NONE": "probability", "LOGISTIC": "log_odds", "SOFTMAX": "margin"}
        if self.post not in scales:
            raise NotSupported(f"the transformation {self.post}")
        return Terms(scales[self.post], self._offset(output), ((output, 1.0),))

    def _terms_of_lone(self, output: int) -> Terms:
        [only] = self._roots
        offset, sign = float(self._base[-1]) if len(self._base) else 0.0, 1.0 if output == 1 else -1.0
        if self.post == "LOGISTIC":
            return Terms("log_odds", sign * offset, ((only, sign),))
        if self.post == "NONE":
            return Terms("probability", offset if output == 1 else 1.0 - offset, ((only, sign),))
        raise NotSupported(f"the transformation {self.post} of one score for two classes")

    def _offset(self, output: int) -> float:
        return float(self._base[output]) if len(self._base) else 0.0

    def said(self, score: float, terms: Terms, row: Array) -> float:
        """The probability, or the value, that follows from the score of a row."""
        if terms.scale == "log_odds":
            return _logistic(score)
        if terms.scale == "margin":
            return _softmax([self.score(row, self.terms_of(each)) for each in range(self.count)], terms.outputs[0][0])
        return score


def _count_outputs(given: Mapping[str, onnx.AttributeProto], is_classifier: bool) -> int:
    if not is_classifier:
        return int(given["n_targets"].i) if "n_targets" in given else 1
    labels = [given[name] for name in ("classlabels_int64s", "classlabels_strings") if name in given]
    count = max((len(each.ints) or len(each.strings) for each in labels), default=0)
    if not 2 <= count <= MAX_CLASSES:
        raise NotSupported("too many classes, or fewer than two")
    return count


def _factor(given: Mapping[str, onnx.AttributeProto], trees: int) -> float:
    how = given["aggregate_function"].s if "aggregate_function" in given else b"SUM"
    if how not in (b"SUM", b"AVERAGE"):
        raise NotSupported("neither a sum nor a mean of trees")
    return 1.0 if how == b"SUM" else 1.0 / trees


def _logistic(odds: float) -> float:
    return 1.0 / (1.0 + exp(-odds)) if odds > -700 else 0.0


def _softmax(scores: Sequence[float], of: int) -> float:
    most = max(scores)
    return exp(scores[of] - most) / sum(exp(each - most) for each in scores)
