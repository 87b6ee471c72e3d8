"""Trains a spec's batch model on rows, turns it into ONNX, and proves that this says the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from everloop_models.batch.allowed import RECORDED
from everloop_models.batch.convert import to_onnx
from everloop_models.batch.pipeline import fit
from everloop_models.batch.proof import Array, check_equal, proof_rows, said_by_onnx, said_by_pipeline
from everloop_models.batch.rows import Columns, Row, ordered_classes, to_columns
from everloop_models.batch.scores import scores
from everloop_models.errors import ModelBroken
from everloop_models.first_load import TIMED, check_latency
from everloop_models.formats import versions_of
from everloop_models.formats.onnx.format import check, load
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

VALIDATION_SHARE = 0.2
"""The last part of the rows, which a first model is not trained on and is measured with."""
MIN_ROWS = 20


class Trained(NamedTuple):
    """An ONNX model that carries its interface and the libraries it was made with; its features, and its metrics."""

    data: bytes
    signature: tuple[str, ...]
    metrics: dict[str, float]


def train(model: ModelSpec, spec: LoopSpec, rows: list[Row]) -> Trained:
    """Train on all rows, after a first model on all but the last fifth has been measured on that fifth.

    Raises ModelBroken with the reason where the rows, the estimator or the conversion do not allow it.
    """
    if len(rows) < MIN_ROWS:
        raise ModelBroken(f"the data set has {len(rows)} rows; a model is trained on {MIN_ROWS} or more")
    features = [row.features for row in rows]
    columns = to_columns(features)
    classes = None if spec.task == "regression" else _classes(rows, spec)
    labels = _labels(rows, classes)
    metrics = _validate(model, spec, columns, labels, len(classes or ()))
    pipeline = fit(model, columns, labels, is_personal=bool(spec.personal_features))
    inputs = columns.stacked
    metrics |= scores(said_by_pipeline(pipeline, inputs, spec.task), labels, "training")
    libraries = versions_of(RECORDED[(model.estimator or "").partition(".")[0]])
    data = to_onnx(pipeline, columns, spec.task, classes, libraries, spec.personal_features)
    check(data)
    served = load(data)
    compared = proof_rows(features, columns)
    inputs = to_columns(compared, like=columns).stacked
    check_equal(said_by_pipeline(pipeline, inputs, spec.task), said_by_onnx(served, compared, classes))
    check_latency(served, features[-TIMED:])
    return Trained(data, served.signature, metrics)


def _classes(rows: list[Row], spec: LoopSpec) -> list[Scalar]:
    seen = {row.label for row in rows}
    if len(seen) < 2:
        raise ModelBroken(f"all {len(rows):,} rows have the label {next(iter(seen))!r:.60}; a class more is needed")
    return list(ordered_classes(seen, spec.label.classes or ()))


def _labels(rows: list[Row], classes: list[Scalar] | None) -> Array:
    if classes is None:
        return np.array([float(row.label) for row in rows])
    numbers = {value: i for i, value in enumerate(classes)}
    return np.array([numbers[row.label] for row in rows], dtype=np.int64)


def _validate(model: ModelSpec, spec: LoopSpec, columns: Columns, labels: Array, classes: int) -> dict[str, float]:
    """The metrics on the last rows of a model trained on those before; none where they have another set of classes."""
    first = len(columns) - max(1, int(len(columns) * VALIDATION_SHARE))
    if classes and len(set(labels[:first].tolist())) < classes:
        return {}
    is_personal = bool(spec.personal_features)
    pipeline = fit(model, columns.part(slice(0, first)), labels[:first], is_personal=is_personal)
    said = said_by_pipeline(pipeline, columns.part(slice(first, None)).stacked, spec.task)
    return scores(said, labels[first:], "validation")
