"""A trainer elsewhere: takes the runs of a loop, and answers each with a small network as an ONNX file."""

from __future__ import annotations

import sys

import numpy as np
from skl2onnx import to_onnx  # type: ignore[import-untyped]
from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]
from sklearn.neural_network import MLPClassifier  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from everloop import trainer


def main(loop: str) -> None:
    """Take runs until the process is ended."""
    for run in trainer(loop, "network"):
        with run:
            names = list(run.data_set.features)
            x = np.array([[row.features[name] for name in names] for row in run.data_set], dtype=np.float32)
            y = np.array([bool(row.label) for row in run.data_set])
            units = int(str(run.parameters["units"]))
            network = make_pipeline(StandardScaler(), MLPClassifier((units,), max_iter=500, random_state=1))
            network.fit(x, y)
            columns = [("x", FloatTensorType([None, len(names)]))]
            model = to_onnx(network, initial_types=columns, options={"zipmap": False}, target_opset=17)
            accuracy = float((network.predict(x) == y).mean())
            run.submit(model.SerializeToString(), features=names, metrics={"accuracy": accuracy})


if __name__ == "__main__":
    main(*sys.argv[1:])
