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
        self._classes = interface.classes
        self._keys = [class_name(each) for each in interface.classes]
        self._of_label: dict[Scalar, Scalar] = (
            dict(zip(interface.labels, interface.classes, strict=True)) if interface.labels else {}
        )
        self._interface = interface

    def decode(self, outputs: Sequence[Any], rows: int) -> list[ModelPrediction]:
        """One prediction a row; raises ModelBroken where an output has another shape, or is not finite."""
        by_name = dict(zip(self.names, outputs, strict=True))
        interface = self._interface
        if interface.value is not None:
            return [ModelPrediction(_finite(v), None) for v in _column(interface.value, by_name[interface.value], rows)]
        every: Sequence[dict[str, float] | None] = [None] * rows
        if interface.probabilities is not None:
            every = self._probabilities(by_name[interface.probabilities], rows)
        if interface.label is None:
            return [self._most_likely(each) for each in every]
        labels = _column(interface.label, by_name[interface.label], rows)
        return [ModelPrediction(self._class_of(v), each) for v, each in zip(labels, every, strict=True)]

    def _probabilities(self, tensor: Tensor, rows: int) -> list[dict[str, float]]:
        shape, count = tensor.shape, len(self._keys)
        if shape in ((rows, 1), (rows,)) and count == 2:
            table = [[1.0 - p, p] for p in tensor.reshape(-1).tolist()]
        elif shape == (rows, count):
            table = tensor.tolist()
        else:
            expected = f"({rows}, {count})"
            raise ModelBroken(f"its probabilities have the shape {shape}, and {expected} is expected")
        keys = self._keys
        for row in table:
            if not abs(sum(row) - 1.0) <= SLACK or min(row) < -SLACK:
                raise ModelBroken(f"its probabilities are {shown(row)}, which are none: {FIX}")
        return [dict(zip(keys, [0.0 if p < 0.0 else 1.0 if p > 1.0 else p for p in row], strict=True)) for row in table]

    def _most_likely(self, probabilities: dict[str, float] | None) -> ModelPrediction:
        assert probabilities is not None, "without a label there are probabilities"
        best = max(range(len(self._keys)), key=[*probabilities.values()].__getitem__)
        return ModelPrediction(self._classes[best], probabilities)

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
