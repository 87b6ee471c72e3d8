"""The model of the bare programs: River's by its pickle, or an ONNX file by onnxruntime."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

FEATURES = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer", "demand_mean_12")


class BareOnnx:
    """An ONNX classifier of two classes, asked as plainly as can be."""

    def __init__(self, file: Path) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def predict_proba_one(self, features: dict[str, float]) -> dict[bool, float]:
        """The probability of each class."""
        row = np.array([[features.get(name, np.nan) for name in FEATURES]], dtype=np.float32)
        probabilities = self._session.run(["probabilities"], {self._input: row})[0][0]
        return {False: float(probabilities[0]), True: float(probabilities[1])}


def bare_model(file: Path) -> Any:
    """The model in a file."""
    return BareOnnx(file) if file.suffix == ".onnx" else pickle.loads(file.read_bytes())
