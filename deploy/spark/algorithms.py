"""The algorithms of Spark ML that a loop file may name, each with the parameters that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pyspark.ml.base import Estimator
from pyspark.ml.classification import GBTClassifier, LogisticRegression, RandomForestClassifier
from pyspark.ml.regression import GBTRegressor, LinearRegression, RandomForestRegressor

SEED = 20
LINEAR = ("maxIter", "regParam", "elasticNetParam", "tol", "fitIntercept")
TREES = ("maxDepth", "maxBins", "minInstancesPerNode", "minInfoGain", "subsamplingRate", "featureSubsetStrategy")


class Algorithm(NamedTuple):
    """What trains models of each task, and the parameters that it takes, under Spark's own names."""

    by_task: Mapping[str, type[Estimator]]
    parameters: tuple[str, ...]


ALGORITHMS = {
    "logistic_regression": Algorithm({"binary": LogisticRegression, "multiclass": LogisticRegression}, LINEAR),
    "linear_regression": Algorithm({"regression": LinearRegression}, LINEAR),
    "gradient_boosted_trees": Algorithm(
        {"binary": GBTClassifier, "regression": GBTRegressor}, (*TREES, "maxIter", "stepSize")
    ),
    "random_forest": Algorithm(
        {
            "binary": RandomForestClassifier,
            "multiclass": RandomForestClassifier,
            "regression": RandomForestRegressor,
        },
        (*TREES, "numTrees"),
    ),
}
DEFAULTS = {"binary": "gradient_boosted_trees", "multiclass": "random_forest", "regression": "gradient_boosted_trees"}


def estimator(task: str, parameters: Mapping[str, Any]) -> Estimator:
    """What trains the line's models; raises ValueError that names the parameter of the loop file and the fix."""
    given = {name: value for name, value in parameters.items() if value is not None}
    name = given.pop("algorithm", DEFAULTS.get(task))
    possible = [each for each, algorithm in ALGORITHMS.items() if task in algorithm.by_task]
    if name not in possible:
        raise ValueError(f"algorithm: {name!r} is none of a {task} loop; write one of {', '.join(possible)}")
    algorithm = ALGORITHMS[name]
    if unknown := sorted(given.keys() - {*algorithm.parameters}):
        raise ValueError(f"{unknown[0]}: {name} has no such parameter; it has {', '.join(algorithm.parameters)}")
    kind = algorithm.by_task[task]
    seed = {"seed": SEED} if "maxDepth" in algorithm.parameters else {}
    try:
        return kind(featuresCol="x", labelCol="y", **seed, **given)
    except TypeError as e:  # Spark's words name the parameter
        raise ValueError(str(e)) from e
