"""The exact attributions of River's linear models, Hoeffding trees, and forests of them."""

from __future__ import annotations

from typing import Any

from river import forest, linear_model, multiclass, optim, preprocessing, tree

from everloop_models.explain.attribution import Method
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


def attribute(
    estimator: Any, x: Columns, label: Scalar, target: Target | None, usual: Columns
) -> tuple[Method, float, Parts] | None:
    """The method, the score, and its parts by column; None for an estimator of another family.

    `x` are the columns as the estimator gets them, `usual` those of a usual observation.
    """
    if target is not None:
        return _of_regression(estimator, x, target, usual)
    if isinstance(estimator, multiclass.OneVsRestClassifier):
        by_label: Any = estimator.classifiers
        own = by_label.get(label)
        return None if own is None else _logistic(own, x, True)
    if isinstance(estimator, linear_model.LogisticRegression):
        return _logistic(estimator, x, label)
    parts: Parts | None = None
    if isinstance(estimator, tree.HoeffdingTreeClassifier):
        parts = classifying_tree(estimator, x, label)
    elif isinstance(estimator, FOREST_CLASSIFIERS):
        parts = classifying_forest(estimator, x, label)
    return None if parts is None else ("tree", probabilities(estimator, x).get(label, 0.0), parts)


def _of_regression(estimator: Any, x: Columns, target: Target, usual: Columns) -> tuple[Method, float, Parts] | None:
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
    return method, target.outward(float(estimator.predict_one(x))), Parts(base + step * parts.base, columns)


def _logistic(estimator: Any, x: Columns, label: Scalar) -> tuple[Method, float, Parts] | None:
    """Log odds of the label, where the probability is their logistic function."""
    if type(estimator) is not linear_model.LogisticRegression or not isinstance(estimator.loss, optim.losses.Log):
        return None
    sign, parts = 1.0 if label is True else -1.0, _dot(estimator, x)
    columns = {name: sign * value for name, value in parts.columns.items()}
    return "linear", sign * float(estimator._raw_dot_one(x)), Parts(sign * parts.base, columns)


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
