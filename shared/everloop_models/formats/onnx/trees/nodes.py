"""The nodes of an ONNX tree ensemble as arrays, which predictions walk through many trees at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]
MAX_NODES = 400_000
"""Of all trees together; they take about 25 bytes each beside what onnxruntime holds."""
MAX_DEPTH = 256
LEAF = 0
_MODES = {b"LEAF": LEAF, b"BRANCH_LEQ": 1, b"BRANCH_LT": 2, b"BRANCH_GTE": 3, b"BRANCH_GT": 4, b"BRANCH_EQ": 5}
_MODES[b"BRANCH_NEQ"] = 6
_COMPARE = {1: np.less_equal, 2: np.less, 3: np.greater_equal, 4: np.greater, 5: np.equal, 6: np.not_equal}


class NotSupported(ValueError):
    """An ensemble that is not read here, or that contradicts itself."""


class Nodes(NamedTuple):
    """One entry for each node; `yes` and `no` are the positions of the children of those that are no leaves.

    A node compares the column `column` with `threshold` as `mode` says; a missing value goes to `yes` only where the
    comparison is true of NaN (as "not equal" is) or `missing` says so. `modes` are those that occur.
    """

    column: Array
    threshold: Array
    mode: Array
    yes: Array
    no: Array
    missing: Array
    roots: Array
    modes: tuple[int, ...]

    def goes_to(self, at: Array, row: Array) -> Array:
        """The child of each node `at`, none of which is a leaf, that the row of columns goes on to."""
        values, thresholds = row[self.column[at]], self.threshold[at]
        if len(self.modes) == 1:
            goes = _COMPARE[self.modes[0]](values, thresholds)
        else:
            goes, modes = np.zeros(len(at), dtype=np.bool_), self.mode[at]
            for mode in self.modes:
                goes |= (modes == mode) & _COMPARE[mode](values, thresholds)
        goes |= self.missing[at] & np.isnan(values)
        return np.asarray(np.where(goes, self.yes[at], self.no[at]))

    def leaves_of(self, row: Array, roots: Array) -> Array:
        """The leaf that the row reaches in each of these trees."""
        at = roots.copy()
        while len(inner := np.flatnonzero(self.mode[at] != LEAF)):
            at[inner] = self.goes_to(at[inner], row)
        return at


def attributes_of(node: onnx.NodeProto) -> Mapping[str, onnx.AttributeProto]:
    """Attributes by name."""
    return {each.name: each for each in node.attribute}


def fractions(given: Mapping[str, onnx.AttributeProto], name: str) -> Array:
    """A list of numbers, in the precision in which the file has them; empty where it has none."""
    if f"{name}_as_tensor" in given:
        return np.asarray(onnx.numpy_helper.to_array(given[f"{name}_as_tensor"].t)).ravel()
    found = given[name].floats if name in given else ()
    return np.fromiter(found, dtype=np.float32, count=len(found))  # in half the time of `array`, which holds the lock


def whole(given: Mapping[str, onnx.AttributeProto], name: str) -> Array:
    """A list of whole numbers; empty where the file has none."""
    found = given[name].ints if name in given else ()
    return np.fromiter(found, dtype=np.int64, count=len(found))


class NodeIndex:
    """Finds the position of a node by the numbers of its tree and of itself."""

    def __init__(self, trees: Array, numbers: Array) -> None:
        if not len(trees) or len(trees) != len(numbers) or numbers.min() < 0 or numbers.max() >= 2**31:
            raise NotSupported("no nodes, or without numbers")
        self._trees, self.tree_of = np.unique(trees, return_inverse=True)
        self._width = int(numbers.max()) + 1
        keys = self.tree_of * self._width + numbers
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        if len(keys) > 1 and bool((np.diff(self._sorted) == 0).any()):
            raise NotSupported("two nodes with the same number")
        self.tree_count = len(self._trees)

    def positions(self, trees: Array, numbers: Array) -> Array:
        """Where these nodes are; raises NotSupported where one of them is missing."""
        index = np.minimum(np.searchsorted(self._trees, trees), self.tree_count - 1)
        keys = index * self._width + numbers
        found = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        same = (self._sorted[found] == keys) & (self._trees[index] == trees) & (numbers >= 0) & (numbers < self._width)
        if not bool(same.all()):
            raise NotSupported("a node that is not there")
        return self._order[found].astype(np.int32)


def read_nodes(given: Mapping[str, onnx.AttributeProto]) -> tuple[Nodes, NodeIndex]:
    """The nodes of an ensemble of `ai.onnx.ml` up to version 4; raises NotSupported."""
    trees, numbers = whole(given, "nodes_treeids"), whole(given, "nodes_nodeids")
    if len(trees) > MAX_NODES:
        raise NotSupported("too many nodes")
    index, n = NodeIndex(trees, numbers), len(trees)
    mode = _read_modes(given["nodes_modes"].strings)
    column, threshold = whole(given, "nodes_featureids"), fractions(given, "nodes_values")
    if not len(mode) == len(column) == len(threshold) == n or column.min() < 0:
        raise NotSupported("lists of different lengths")
    missing = whole(given, "nodes_missing_value_tracks_true").astype(np.bool_)
    inner = np.flatnonzero(mode != LEAF)
    yes, no = np.zeros((2, n), dtype=np.int32)
    for children, name in ((yes, "nodes_truenodeids"), (no, "nodes_falsenodeids")):
        children[inner] = index.positions(trees[inner], whole(given, name)[inner])
    nodes = Nodes(
        column=column.astype(np.int32),
        threshold=threshold,
        mode=mode,
        yes=yes,
        no=no,
        missing=missing if len(missing) == n else np.zeros(n, dtype=np.bool_),
        roots=_find_roots(index, inner, yes, no),
        modes=tuple(int(each) for each in np.unique(mode) if each != LEAF),
    )
    _check_depth(nodes)
    return nodes, index


def _read_modes(names: Sequence[bytes]) -> Array:
    try:
        return np.fromiter(map(_MODES.__getitem__, names), dtype=np.int8, count=len(names))
    except KeyError as e:
        raise NotSupported("a comparison that is not known") from e


def _find_roots(index: NodeIndex, inner: Array, yes: Array, no: Array) -> Array:
    """The first node of each tree, which is no other's child."""
    is_child = np.zeros(len(yes), dtype=np.bool_)
    is_child[yes[inner]] = is_child[no[inner]] = True
    roots = np.flatnonzero(~is_child)
    first = np.unique(index.tree_of, return_index=True)[1]
    if len(roots) != index.tree_count or not np.array_equal(np.sort(first), roots):
        raise NotSupported("a tree without one root")
    return roots.astype(np.int32)


def _check_depth(nodes: Nodes) -> None:
    """Raise NotSupported for a tree that is too deep, as one with a cycle is."""
    level = nodes.roots
    for _ in range(MAX_DEPTH):
        level = level[nodes.mode[level] != LEAF]
        if not len(level):
            return
        level = np.unique(np.concatenate([nodes.yes[level], nodes.no[level]]))
    raise NotSupported("too deep a tree")
