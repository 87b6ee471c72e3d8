"""What River's forests predict, as a sum over their trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from river import ensemble, forest, tree

from everloop_models.formats.river.tree_paths import Parts, added, classifying_tree, regressing_tree
from everloop_schemas.envelope import Scalar

FOREST_CLASSIFIERS = (forest.ARFClassifier, ensemble.LeveragingBaggingClassifier)


def classifying_forest(found: Any, x: Mapping[str, float], label: Scalar) -> Parts | None:
    """The parts of the probability of `label`: those of the trees, weighted as the forest weights their votes."""
    parts, total = list[Parts](), 0.0
    for number, member in enumerate(found):
        if not isinstance(member, tree.HoeffdingTreeClassifier):
            return None
        weight = _vote(found, number)
        total += weight * sum(probabilities(member, x).values())
        if (of_member := classifying_tree(member, x, label)) is not None:
            parts.append(of_member.times(weight))
    return added(parts).times(1 / total) if total > 0 else None


def probabilities(estimator: Any, x: Mapping[str, float]) -> dict[Scalar, float]:
    """What a classifier says of each label."""
    said: dict[Scalar, float] = estimator.predict_proba_one(x)
    return said


def _vote(found: Any, number: int) -> float:
    if not isinstance(found, forest.ARFClassifier) or found.disable_weighted_vote:
        return 1.0
    metric = float(found._metrics[number].get())
    return metric if metric > 0 else 1.0


def regressing_forest(found: Any, x: Mapping[str, float], usual: Mapping[str, float]) -> Parts | None:
    """The parts of the value: those of the trees in the middle where it is their median, else of all of them."""
    if not len(found):
        return None
    said = np.array([float(member.predict_one(x)) for member in found])
    weights = _weights(found, said)
    parts = list[Parts]()
    for member, weight in zip(found, weights, strict=True):
        if weight:
            of_member = regressing_tree(member, x, usual)
            if of_member is None:
                return None
            parts.append(of_member.times(float(weight)))
    return added(parts)


def _weights(found: Any, said: Any) -> Any:
    """What each tree's value counts, as River's forest adds them up."""
    n = len(said)
    if found.aggregation_method == found._MEDIAN:
        middle = np.argsort(said, kind="stable")[(n - 1) // 2 : n // 2 + 1]
        weights = np.zeros(n)
        weights[middle] = 1 / len(middle)
        return weights
    if found.disable_weighted_vote:
        return np.full(n, 1 / n)
    errors = np.array([float(metric.get()) for metric in found._metrics])
    if not errors.sum():
        return np.full(n, 1 / n)
    weights = errors.sum() - errors
    return weights / weights.sum() / n
