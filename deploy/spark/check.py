"""Checks an environment: every algorithm on rows with missing values and texts, proven equal as ONNX. Needs no loop.

Prints a line of JSON for each: its name, its metrics, and what the ONNX file has as inputs.
"""

from __future__ import annotations

import json
import random
import sys
import time

import fit
import onnx
from algorithms import estimator
from pyspark.sql import Row, SparkSession
from session import start_session

KINDS = {"a": "number", "n.b": "integer", "is it": "boolean", "shop": "string", "never": "number"}
MODELS = {
    "logistic_regression": ("binary", {"maxIter": 20, "regParam": 0.01}),
    "multinomial": ("multiclass", {"algorithm": "logistic_regression", "maxIter": 20}),
    "gradient_boosted_trees": ("binary", {"maxIter": 3, "maxDepth": 3}),
    "random_forest": ("multiclass", {"numTrees": 4, "maxDepth": 4}),
    "linear_regression": ("regression", {}),
    "boosted_regression": ("regression", {"algorithm": "gradient_boosted_trees", "maxIter": 3, "stepSize": 0.3}),
    "forest_regression": ("regression", {"algorithm": "random_forest", "numTrees": 3}),
}
SCHEMA = (
    "offset bigint, label {label}, features struct<a double, `n.b` bigint, `is it` boolean, shop string, never double>"
)


def main() -> None:
    """Train each on the same rows."""
    spark = start_session("local[2]", "1g", [], dict(pair.split("=", 1) for pair in sys.argv[1:]))
    for name, (task, parameters) in MODELS.items():
        started = time.monotonic()
        rows = _rows(spark, task)
        algorithm = {"algorithm": name} if name in ("logistic_regression", "linear_regression", "random_forest") else {}
        learner = estimator(task, {"algorithm": parameters.get("algorithm", name), **algorithm, **parameters})
        classes = None if task == "regression" else fit.classes_of(rows, None)
        trained = fit.train(rows, KINDS, learner, classes)
        model = onnx.load_model_from_string(trained.file)
        line = {
            "name": name,
            "metrics": trained.metrics,
            "classes": trained.classes,
            "inputs": [each.name for each in model.graph.input],
            "seconds": round(time.monotonic() - started, 1),
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def _rows(spark: SparkSession, task: str) -> object:
    chance = random.Random(20)
    rows = []
    for offset in range(400):
        a, b = chance.uniform(-3, 3), chance.randrange(5)
        it, shop = chance.random() < 0.5, chance.choice(["north", "south", "", None])
        value = a + b * (1 if it else -1) + (2 if shop == "north" else 0)
        label = {"binary": value > 0, "multiclass": "abc"[(value > -1) + (value > 1)], "regression": value}[task]
        missing = chance.random() < 0.1
        features = Row(None if missing else a * 1e3, b, None if missing else it, shop, None)
        rows.append(Row(offset, label, features))
    kind = {"binary": "boolean", "multiclass": "string", "regression": "double"}[task]
    return spark.createDataFrame(rows, SCHEMA.format(label=kind)).repartition(2)


if __name__ == "__main__":
    main()
