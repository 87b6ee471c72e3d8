"""A data set as the matrix that a network takes, encoded as it is in the ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from encoding import MAX_TEXTS, Encoding


@dataclass
class Table(Encoding):
    """The rows: `x` as floats, `y` as class numbers or values; and how a row becomes one of `x`."""

    classes: list[Any] | None
    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]

    @classmethod
    def of(cls, data_set: Any, task: str, classes: list[Any] | None) -> Table:
        """Read a data set. Raises ValueError where there is nothing to learn."""
        rows = list(data_set)
        numbers = [name for name, kind in data_set.features.items() if kind != "string"]
        texts = {
            name: _most_frequent([row.features.get(name) for row in rows])
            for name, kind in data_set.features.items()
            if kind == "string"
        }
        values = np.array([[_number(row.features.get(name)) for name in numbers] for row in rows], np.float32)
        values = values.reshape(len(rows), len(numbers))
        with np.errstate(all="ignore"):
            means = np.nan_to_num(np.array([np.nanmean(c) if np.isfinite(c).any() else 0.0 for c in values.T]))
        filled = np.where(np.isnan(values), means, values) if numbers else values
        scales = filled.std(axis=0) if numbers else np.zeros(0)
        scales = np.where(scales > 0, scales, 1.0)
        columns = [(filled - means) / scales]
        for name, known in texts.items():
            given = np.array([row.features.get(name) for row in rows], object)
            columns.append(
                np.array([[text == each for each in known] for text in given], float).reshape(-1, len(known))
            )
        labels = [row.label for row in rows]
        if task == "regression":
            classes, y = None, np.array([float(label) for label in labels], np.float32)
        else:
            classes = classes or sorted({*labels}, key=lambda label: (str(type(label)), label))
            if len({*labels}) < 2:
                raise ValueError("the data set has outcomes of one class only")
            y = np.array([classes.index(label) for label in labels], np.int64)
        x = np.concatenate(columns, axis=1).astype(np.float32)
        return cls(numbers, texts, np.asarray(means, np.float32), np.asarray(scales, np.float32), classes, x, y)

    def split(self) -> tuple[slice, slice]:
        """The rows to learn from, and the last fifth, to measure on."""
        cut = max(1, len(self.x) - max(1, len(self.x) // 5))
        return slice(0, cut), slice(cut, None)

    def metrics(self, predicted: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> dict[str, float]:
        """Accuracy and log loss of probabilities, or the mean absolute error of values."""
        if self.classes is None:
            return {"mae": float(np.abs(predicted.reshape(-1) - expected).mean())}
        right = predicted[np.arange(len(expected)), expected]
        return {
            "accuracy": float((predicted.argmax(axis=1) == expected).mean()),
            "log_loss": float(-np.log(np.clip(right, 1e-9, 1.0)).mean()),
        }


def _most_frequent(values: list[Any]) -> list[str]:
    counts: dict[str, int] = {}
    for value in values:
        if isinstance(value, str):
            counts[value] = counts.get(value, 0) + 1
    return sorted(counts, key=lambda text: (-counts[text], text))[:MAX_TEXTS] or [""]


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
