"""Trains a model on encoded rows, measures it on those that came last, and proves that its ONNX file says the same."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from encode import EncodedRows
from onnx_model import to_onnx
from pyspark import StorageLevel
from pyspark.ml.base import Estimator
from pyspark.ml.functions import vector_to_array
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

log = logging.getLogger("spark-trainer")
LEARNED_SHARE = 0.8
"""Of the rows, in the order of the log: a first model learns from these, and is measured on the others."""
PROVEN_ROWS, TOLERANCE = 1_000, 1e-5


@dataclass(frozen=True)
class Trained:
    """A model as an ONNX file, its classes in the order of its probabilities, and its metrics."""

    file: bytes
    classes: list[Any] | None
    metrics: dict[str, float]
    rows: int


def train(rows: DataFrame, kinds: dict[str, str], estimator: Estimator, classes: Sequence[Any] | None) -> Trained:
    """Train on rows with `offset`, `label` and `features`; without classes it is a regression.

    Raises ValueError where there is nothing to learn, or where the file differs from the model.
    """
    encoded = EncodedRows(rows, kinds)
    vectors = encoded.vectors().withColumn("y", _target(classes)).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        count, cut = vectors.agg(F.count("y"), F.percentile_approx("offset", LEARNED_SHARE, 10_000)).first()
        learned, held_back = vectors.where(F.col("offset") <= cut), vectors.where(F.col("offset") > cut)
        metrics = {}
        if _can_be_measured(learned, held_back, classes):
            metrics = _measured(estimator.fit(learned).transform(held_back), classes)
        model = estimator.fit(vectors)
        file = encoded.encoding.wrap(to_onnx(model))
        last = vectors.orderBy(F.desc("offset")).limit(PROVEN_ROWS).persist()
        check_equal(file, encoded.feeds(last), _said(model.transform(last), classes))
        return Trained(file, list(classes) if classes else None, metrics, count)
    finally:
        vectors.unpersist()


def classes_of(rows: DataFrame, declared: Sequence[Any] | None) -> list[Any]:
    """The classes of the labels: in the loop file's order, else sorted. Raises ValueError where there is one only."""
    found = {row[0] for row in rows.select("label").distinct().collect()}
    classes = [c for c in declared if c in found] if declared else sorted(found)
    if len(classes) < 2:
        raise ValueError("the data set has outcomes of one class only")
    return classes


def check_equal(file: bytes, feeds: dict[str, np.ndarray], said: np.ndarray) -> None:
    """Raises ValueError where an ONNX file does not say what the model said, a row each."""
    answered = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    if answered.shape[1] == 1 and said.shape[1] == 2:
        answered = np.concatenate([1 - answered, answered], axis=1)
    scale = np.maximum(np.abs(said), said.std()) if said.shape[1] == 1 else 1.0
    difference = float(np.abs((answered - said) / np.where(scale > 0, scale, 1.0)).max())
    if not difference <= TOLERANCE:
        raise ValueError(f"the ONNX file differs from the model of Spark by up to {difference:.3g} on {len(said)} rows")
    log.info("the ONNX file says the same as Spark on %d rows (%.1e)", len(said), difference)


def _target(classes: Sequence[Any] | None) -> Column:
    if classes is None:
        return F.col("label").cast("double")
    number = F.lit(None)
    for i, known in enumerate(classes):
        number = F.when(F.col("label") == F.lit(known), F.lit(float(i))).otherwise(number)
    return number


def _can_be_measured(learned: DataFrame, held_back: DataFrame, classes: Sequence[Any] | None) -> bool:
    if held_back.isEmpty():
        return False
    return classes is None or learned.select("y").distinct().count() == len(classes)


def _measured(predicted: DataFrame, classes: Sequence[Any] | None) -> dict[str, float]:
    """The metrics of predictions for rows that were not learned."""
    error = F.col("prediction") - F.col("y")
    if classes is None:
        measures = {"mae": F.avg(F.abs(error)), "rmse": F.sqrt(F.avg(error * error))}
    else:
        right = F.element_at(vector_to_array("probability"), F.col("y").cast("int") + 1)
        measures = {
            "accuracy": F.avg((error == 0).cast("double")),
            "log_loss": F.avg(-F.log(F.greatest(right, F.lit(1e-9)))),
        }
    row = predicted.agg(*(column.alias(name) for name, column in measures.items())).first()
    return {f"validation_{name}": float(row[name]) for name in measures}


def _said(predicted: DataFrame, classes: Sequence[Any] | None) -> np.ndarray:
    column = "prediction" if classes is None else "probability"
    values = [row[0] for row in predicted.select(column).collect()]
    return np.array([[value] if classes is None else value.toArray() for value in values])
