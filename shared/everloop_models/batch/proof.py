"""Proves that an ONNX model says what the fitted pipeline says, or names the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from everloop_metrics import class_name
from everloop_models.batch.rows import Columns
from everloop_models.errors import ModelBroken
from everloop_models.model import ManyRowsModel
from everloop_schemas.envelope import Fields, Scalar

PROOF_ROWS = 1_000
"""The last rows of the data set."""
VARIED_ROWS, MAX_VARIANTS = 2, 200
"""So many of them again with each feature missing, and each text unknown."""
TOLERANCE = 1e-5
"""Of a probability; of a value, as a share of it or of the deviation of all values, whichever is larger."""
UNKNOWN_TEXT = "\x00unknown"

Array = NDArray[Any]


class Said(NamedTuple):
    """What a model says of rows: class numbers with a probability each (None where it has none), or values.

    `margins` is how far the best class is ahead of the next.
    """

    labels: Array | None
    probabilities: Array | None
    values: Array | None
    margins: Array | None = None


def proof_rows(rows: Sequence[Fields], columns: Columns) -> list[Fields]:
    """The rows that models are compared on."""
    last = list(rows[-PROOF_ROWS:])
    variants: list[Fields] = []
    for row in last[:VARIED_ROWS]:
        variants += [{**row, name: None} for name in (*columns.number_names, *columns.text_names)]
        variants += [{**row, name: UNKNOWN_TEXT} for name in columns.text_names]
    return last + variants[:MAX_VARIANTS]


def said_by_pipeline(pipeline: Any, inputs: Array, task: str) -> Said:
    """What the fitted pipeline says of stacked columns; classes are numbers."""
    if task == "regression":
        return Said(None, None, np.asarray(pipeline.predict(inputs), dtype=np.float64).ravel())
    labels = np.asarray(pipeline.predict(inputs)).ravel()
    if hasattr(pipeline, "predict_proba"):
        probabilities = np.asarray(pipeline.predict_proba(inputs), dtype=np.float64)
        return Said(labels, probabilities, None, _margins(probabilities))
    scores = np.asarray(pipeline.decision_function(inputs), dtype=np.float64)
    return Said(labels, None, None, np.abs(scores) if scores.ndim == 1 else _margins(scores))


def said_by_onnx(served: ManyRowsModel, rows: Sequence[Fields], classes: Sequence[Scalar] | None) -> Said:
    """What the artifact says of rows, as it is served."""
    predicted = served.predict_many(rows)
    if classes is None:
        return Said(None, None, np.array([p.value for p in predicted], dtype=np.float64))
    numbers, names = {value: i for i, value in enumerate(classes)}, [class_name(value) for value in classes]
    labels = np.array([numbers[p.value] for p in predicted])
    if any(p.probabilities is None for p in predicted):
        return Said(labels, None, None)
    return Said(labels, np.array([[(p.probabilities or {})[name] for name in names] for p in predicted]), None)


def check_equal(fitted: Said, converted: Said) -> None:
    """Raise ModelBroken, with the largest difference, unless both say the same; a tie may be broken either way."""
    if fitted.values is not None:
        assert converted.values is not None, "of the same task"
        spread = float(np.std(fitted.values))
        _check_close("values", fitted.values, converted.values, np.maximum(np.abs(fitted.values), spread))
        return
    assert fitted.labels is not None, "of classes"
    assert converted.labels is not None, "of classes"
    if fitted.probabilities is not None:
        assert converted.probabilities is not None, "converted with probabilities"
        _check_close("probabilities", fitted.probabilities, converted.probabilities, np.ones(1))
    assert fitted.margins is not None, "set with labels"
    other = (fitted.labels != converted.labels) & (fitted.margins > 2 * TOLERANCE)
    if other.any():
        where = f"{other.sum()} of {len(other)} rows"
        raise ModelBroken(f"the ONNX model names another class than the trained one in {where}")


def _check_close(what: str, fitted: Array, converted: Array, scale: Array) -> None:
    if converted.shape != fitted.shape:
        raise ModelBroken(f"the ONNX model has {what} of shape {converted.shape}, the trained one {fitted.shape}")
    if not np.isfinite(fitted).all():
        raise ModelBroken(f"the trained model has {what} that are not finite")
    difference = np.abs(converted - fitted)
    wrong = ~(difference <= TOLERANCE * scale)
    if wrong.any():
        rows = int(wrong.any(axis=-1).sum() if wrong.ndim > 1 else wrong.sum())
        most = float(np.nanmax(difference)) if np.isfinite(difference).any() else float("nan")
        limit = f"allowed is {TOLERANCE:g} of the scale"
        where = f"{what} of {rows} of {len(fitted)} rows"
        raise ModelBroken(f"the ONNX model differs from the trained one by up to {most:.3g} in {where}; {limit}")


def _margins(scores: Array) -> Array:
    best = np.sort(scores, axis=1)
    margins: Array = best[:, -1] - best[:, -2]
    return margins
