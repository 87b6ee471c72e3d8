"""The exact attributions of River's linear models, Hoeffding trees, and forests of them."""

from __future__ import annotations

from math import exp
from typing import Any, NamedTuple

from river import forest, linear_model, multiclass, optim, preprocessing, tree

from everloop_models.explain.attribution import Method, Scale
from everloop_models.formats.river.forests import (
    FOREST_CLASSIFIERS,
    classifying_forest,
    probabilities,
    regressing_forest,
)
from everloop_models.formats.river.tree_paths import Parts, classifying_tree, regressing_tree
from everloop_models.scaling import RobustScaler, Target
from everloop_schemas.envelope import Scalar

Columns = dict[str, float]
FAMILIES = (
    multiclass.OneVsRestClassifier,
    linear_model.LogisticRegression,
    linear_model.LinearRegression,
    tree.HoeffdingTreeClassifier,
    tree.HoeffdingTreeRegressor,
    forest.ARFRegressor,
    *FOREST_CLASSIFIERS,
)
"""Estimators that are attributed, most of them exactly."""
CERTAIN = 30.0
"""Log odds from which a probability is 1 as far as a comparison can tell."""


class Attributed(NamedTuple):
    """A score, what it is, the probability or value that follows from it, and its parts by column."""

    method: Method
    score: float
    scale: Scale
    said: float | None
    parts: Parts


def attribute(estimator: Any, x: Columns, label: Scalar, target: Target | None, usual: Columns) -> Attributed | None:
    """The score and its parts; None for an estimator of another family.

    `x` are the columns as the estimator gets them, `usual` those of a usual observation.
    """
    if target is not None:
        return _of_regression(estimator, x, target, usual)
    if isinstance(estimator, multiclass.OneVsRestClassifier):
        by_label: Any = estimator.classifiers
        own = by_label.get(label)
        found = None if own is None else _logistic(own, x, True)
        return found._replace(said=None) if found else None  # the probabilities are made to sum to 1
    if isinstance(estimator, linear_model.LogisticRegression):
        return _logistic(estimator, x, label)
    parts: Parts | None = None
    if isinstance(estimator, tree.HoeffdingTreeClassifier):
        parts = classifying_tree(estimator, x, label)
    elif isinstance(estimator, FOREST_CLASSIFIERS):
        parts = classifying_forest(estimator, x, label)
    if parts is None:
        return None
    probability = probabilities(estimator, x).get(label, 0.0)
    return Attributed("tree", probability, "probability", probability, parts)


def _of_regression(estimator: Any, x: Columns, target: Target, usual: Columns) -> Attributed | None:
    parts: Parts | None = None
    method: Method = "tree"
    if type(estimator) is linear_model.LinearRegression:
        method, parts = "linear", _dot(estimator, x)
    elif isinstance(estimator, tree.HoeffdingTreeRegressor):
        parts = regressing_tree(estimator, x, usual)
    elif isinstance(estimator, forest.ARFRegressor):
        parts = regressing_forest(estimator, x, usual)
    if parts is None:
        return None
    base, step = target.outward(0.0), target.outward(1.0) - target.outward(0.0)
    columns = {name: step * value for name, value in parts.columns.items()}
    value = target.outward(float(estimator.predict_one(x)))
    return Attributed(method, value, "value", value, Parts(base + step * parts.base, columns))


def _logistic(estimator: Any, x: Columns, label: Scalar) -> Attributed | None:
    """Log odds of the label, where the probability is their logistic function."""
    if type(estimator) is not linear_model.LogisticRegression or not isinstance(estimator.loss, optim.losses.Log):
        return None
    sign, parts = 1.0 if label is True else -1.0, _dot(estimator, x)
    columns = {name: sign * value for name, value in parts.columns.items()}
    odds = sign * float(estimator._raw_dot_one(x))
    probability = 1 / (1 + exp(-min(max(odds, -CERTAIN), CERTAIN)))
    return Attributed("linear", odds, "log_odds", probability, Parts(sign * parts.base, columns))


def _dot(estimator: Any, x: Columns) -> Parts:
    weights = estimator.weights
    return Parts(float(estimator.intercept), {name: weights.get(name, 0.0) * value for name, value in x.items()})


def usual_numbers(scaler: Any, numbers: Columns) -> Columns:
    """The centre of each column that the scaler knows; the number itself where it knows none."""
    if isinstance(scaler, RobustScaler):
        return {name: scaler.centre_of(name, value) for name, value in numbers.items()}
    if isinstance(scaler, preprocessing.StandardScaler):
        return {name: float(scaler.means.get(name, value)) for name, value in numbers.items()}
    return dict(numbers)
