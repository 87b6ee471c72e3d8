"""Trains small TensorFlow networks for a loop: takes each run that asks for one, and answers with an ONNX file."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import keras
import onnx
from program import command_line, take_runs
from table import Table

from everloop import TrainerRun

log = logging.getLogger("tensorflow-trainer")
SEED = 20


def train(run: TrainerRun) -> None:
    """Train a network on the run's data set, and submit it. Parameters in the loop file: epochs, units, rate."""
    epochs, units = int(run.parameters.get("epochs") or 30), int(run.parameters.get("units") or 16)
    table = Table.of(run.data_set, run.task, run.classes)
    learned, held_back = table.split()
    keras.utils.set_random_seed(SEED)
    last = (
        keras.layers.Dense(len(table.classes), activation="softmax", name="probabilities")
        if table.classes
        else keras.layers.Dense(1, name="value")
    )
    network = keras.Sequential(
        [keras.Input((table.x.shape[1],), name="x"), keras.layers.Dense(units, activation="relu"), last]
    )
    network.compile(
        optimizer=keras.optimizers.Adam(float(run.parameters.get("rate") or 0.01)),
        loss="sparse_categorical_crossentropy" if table.classes else "mse",
    )
    network.fit(
        table.x[learned], table.y[learned], epochs=epochs, batch_size=64, verbose=0, callbacks=[_StopWhenEnded(run)]
    )
    if run.ended:
        log.info("run %s is needed no more: %s", run.run, run.reason_ended)
        return
    metrics = table.metrics(network.predict(table.x[held_back], verbose=0), table.y[held_back])
    answered = run.submit(table.wrap(export(network)), metrics=metrics, classes=table.classes)
    log.info("run %s has ended: %s predicts, %s", run.run, answered.version, metrics)


def export(network: keras.Model) -> bytes:
    """The network as an ONNX file, for any number of rows."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        network.export(file, format="onnx", verbose=False)
        return bytes(onnx.load(file).SerializeToString())


class _StopWhenEnded(keras.callbacks.Callback):
    """Ends the training when nobody needs its model any more."""

    def __init__(self, run: TrainerRun) -> None:
        super().__init__()
        self._run = run

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Look after each epoch."""
        self.model.stop_training = self._run.ended


if __name__ == "__main__":
    take_runs(command_line("tensorflow", __doc__).parse_args(), train)
