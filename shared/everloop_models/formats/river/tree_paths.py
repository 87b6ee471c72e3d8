"""What a Hoeffding tree predicts, as a path: each split adds what its branch differs by from the node before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf, log
from typing import Any, NamedTuple

from river import linear_model
from river.tree.nodes.branch import DTBranch

from everloop_models.explain.evidence import share_evidence
from everloop_schemas.envelope import Scalar

NOTHING = 1e-12
"""Two predictions this close are the same."""


class Parts(NamedTuple):
    """A base and what each column contributed; the sum is a score."""

    base: float
    columns: dict[str, float]

    def times(self, factor: float) -> Parts:
        """All of it, multiplied."""
        return Parts(factor * self.base, {name: factor * value for name, value in self.columns.items()})


def added(parts: Sequence[Parts]) -> Parts:
    """The sum of several."""
    columns = dict[str, float]()
    for each in parts:
        for name, value in each.columns.items():
            columns[name] = columns.get(name, 0.0) + value
    return Parts(sum(each.base for each in parts), columns)


def classifying_tree(tree: Any, x: Mapping[str, float], label: Scalar) -> Parts | None:
    """The parts of the probability of `label`; None where the tree has no answer.

    Along the path as Saabas does it (2014): from the share of the label at the root to its share at the leaf, each
    node as it was when it split (adaptive trees keep theirs up to date). Where the leaf predicts by naive Bayes, the
    step from its share to its prediction is divided among the evidence.
    """
    reached, total = list[tuple[Parts, float]](), 0.0
    for path in _paths(tree, x):
        leaf = path[-1]
        said = leaf.prediction(x, tree=tree) or {}
        weight = sum(said.values())
        parts = _along(path, lambda node: _share(node.stats, label))
        probability = said.get(label, 0.0) / weight if weight else 0.0
        reached.append((_in_leaf(parts, leaf, x, label, probability), weight))
        total += weight
    return added([parts.times(weight / total) for parts, weight in reached]) if total else None


def regressing_tree(tree: Any, x: Mapping[str, float], usual: Mapping[str, float]) -> Parts | None:
    """The parts of the value; None for leaves with models of another kind than linear ones.

    Along the path between the means of its nodes. A linear model in a leaf adds its weights times the distance from
    `usual`; by what it differs there from the leaf's mean, the base differs.
    """
    reached = [_regressed(tree, path, x, usual) for path in _paths(tree, x)]
    found = [parts for parts in reached if parts is not None]
    return added(found).times(1 / len(found)) if found and len(found) == len(reached) else None


def _paths(tree: Any, x: Mapping[str, float]) -> list[list[Any]]:
    """From the root to each leaf that is asked: the alternates of an adaptive tree are asked as well."""
    root = tree._root
    if root is None:
        return []
    if not isinstance(root, DTBranch):
        return [[root]]
    path, paths = list[Any](), list[list[Any]]()
    for node in root.walk(x, until_leaf=True):
        if path and path[-1] is node:
            continue  # River names a node twice where the split's feature is missing
        path.append(node)
        if alternate := getattr(node, "_alternate_tree", None):
            paths.append([*path, alternate])
    return [*paths, path]


def _along(path: Sequence[Any], value: Any) -> Parts:
    base, columns = float(value(path[0])), dict[str, float]()
    for node, after in pairwise(path):
        step = float(value(after)) - float(value(node))
        if after in node.children:
            columns[node.feature] = columns.get(node.feature, 0.0) + step
        else:
            base += step  # an alternate stands in the node's place: no split led to it
    return Parts(base, columns)


def _share(stats: Mapping[Scalar, float], label: Scalar) -> float:
    total = sum(stats.values())
    return stats.get(label, 0.0) / total if total else 0.0


def _in_leaf(parts: Parts, leaf: Any, x: Mapping[str, float], label: Scalar, said: float) -> Parts:
    """The same with the step from the leaf's share to what it says."""
    if abs(said - _share(leaf.stats, label)) < NOTHING or not leaf.splitters:
        return parts
    prior = {each: log(weight / leaf.total_weight) for each, weight in leaf.stats.items() if weight > 0}
    if label not in prior:
        return parts
    evidence = {
        name: {each: _log_likelihood(splitter, x[name], each) for each in prior}
        for name, splitter in leaf.splitters.items()
        if name in x
    }
    return added([parts, Parts(0.0, share_evidence(prior, evidence, label))])


def _log_likelihood(splitter: Any, value: float, label: Scalar) -> float:
    """As River's naive Bayes counts it: what is impossible counts as no evidence."""
    if (log_proba := getattr(splitter, "cond_log_proba", None)) is not None:
        found = float(log_proba(value, label))
        return found if found > -inf else 0.0
    likelihood = float(splitter.cond_proba(value, label))
    return log(likelihood) if likelihood > 0 else 0.0


def _regressed(tree: Any, path: Sequence[Any], x: Mapping[str, float], usual: Mapping[str, float]) -> Parts | None:
    leaf = path[-1]
    parts, mean = _along(path, lambda node: node.stats.mean.get()), float(leaf.stats.mean.get())
    said = float(leaf.prediction(x, tree=tree))
    if abs(said - mean) <= NOTHING * max(1.0, abs(mean)):
        return parts
    model = getattr(leaf, "_leaf_model", None)
    if type(model) is not linear_model.LinearRegression:
        return None
    weights = model.weights
    steps = {name: weights.get(name, 0.0) * (value - usual.get(name, 0.0)) for name, value in x.items()}
    return added([parts, Parts(said - sum(steps.values()) - mean, steps)])
