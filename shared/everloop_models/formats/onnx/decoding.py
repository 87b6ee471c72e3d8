"""Reads predictions from the outputs of an ONNX model, and refuses what is none."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from everloop_metrics import class_name
from everloop_models.errors import ModelBroken
from everloop_models.formats.onnx.encoding import Tensor
from everloop_models.formats.onnx.interface import Interface
from everloop_models.formats.onnx.texts import quoted, shown
from everloop_models.model import ModelPrediction
from everloop_schemas.envelope import Scalar

SLACK = 1e-3
"""How far the probabilities of a row may be from a sum of 1: they are floats of 32 bits."""
FIX = "end the model with Softmax, or Sigmoid for two classes, or name only its label"


class OutputDecoder:
    """Makes predictions from the tensors that an interface names."""

    def __init__(self, interface: Interface) -> None:
        self.names = list(interface.output_names)
        self._interface = interface
        self._keys = [class_name(each) for each in interface.classes]
        self._of_key: dict[str, Scalar] = dict(zip(self._keys, interface.classes, strict=True))
        self._of_label: dict[Scalar, Scalar] = (
            dict(zip(interface.labels, interface.classes, strict=True)) if interface.labels else {}
        )

    def decode(self, outputs: Sequence[Any], rows: int) -> list[ModelPrediction]:
        """One prediction a row; raises ModelBroken where an output has another shape, or is not finite."""
        interface = self._interface
        if interface.value is not None:
            return [ModelPrediction(_finite(v), None) for v in _column(interface.value, outputs[0], rows)]
        if interface.probabilities is None:
            found: Sequence[dict[str, float] | None] = [None] * rows
        else:
            found = [self._by_class(row) for row in self._rows(outputs[-1], rows)]
        if interface.label is None:
            return [self._most_likely(each) for each in found]
        labels = _column(interface.label, outputs[0], rows)
        return [ModelPrediction(self._class_of(label), each) for label, each in zip(labels, found, strict=True)]

    def _rows(self, tensor: Tensor, rows: int) -> list[list[float]]:
        shape, count = tensor.shape, len(self._keys)
        if shape == (rows, count):
            table: list[list[float]] = tensor.tolist()
            return table
        if count == 2 and shape in ((rows, 1), (rows,)):
            return [[1.0 - p, p] for p in tensor.reshape(-1).tolist()]
        raise ModelBroken(f"its probabilities have the shape {shape}, and ({rows}, {count}) is expected")

    def _by_class(self, row: list[float]) -> dict[str, float]:
        least, excess = min(row), sum(row) - 1.0
        if not (0.0 <= least and max(row) <= 1.0 and -SLACK <= excess <= SLACK):
            if not (-SLACK <= least and -SLACK <= excess <= SLACK):
                raise ModelBroken(f"its probabilities are {shown(row)}, which are none: {FIX}")
            row = [min(max(p, 0.0), 1.0) for p in row]
        return dict(zip(self._keys, row, strict=True))

    def _most_likely(self, probabilities: dict[str, float] | None) -> ModelPrediction:
        assert probabilities is not None, "without a label there are probabilities"
        best = max(probabilities, key=probabilities.__getitem__)
        return ModelPrediction(self._of_key[best], probabilities)

    def _class_of(self, label: Scalar) -> Scalar:
        if not self._of_label:
            return label
        try:
            return self._of_label[label]
        except KeyError:
            raise ModelBroken(f"its label is {quoted(class_name(label))}, which is no class of the model") from None


def _column(name: str, tensor: Tensor, rows: int) -> list[Any]:
    if tensor.shape not in ((rows,), (rows, 1)):
        raise ModelBroken(f"its output {quoted(name)} has the shape {tensor.shape}, and ({rows},) is expected")
    values: list[Any] = tensor.reshape(-1).tolist()
    return values


def _finite(value: float) -> float:
    if not isfinite(value):
        raise ModelBroken(f"the prediction is {value}")
    return float(value)
