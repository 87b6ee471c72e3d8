"""Trains small PyTorch networks for a loop: takes each run that asks for one, and answers with an ONNX file."""

from __future__ import annotations

import io
import logging

import torch
from encoding import OPSET
from program import command_line, take_runs
from table import Table
from torch import nn

from everloop import TrainerRun

log = logging.getLogger("pytorch-trainer")
SEED = 20


def train(run: TrainerRun) -> None:
    """Train a network on the run's data set, and submit it. Parameters in the loop file: epochs, units, rate."""
    epochs, units = int(run.parameters.get("epochs") or 30), int(run.parameters.get("units") or 16)
    table = Table.of(run.data_set, run.task, run.classes)
    learned, held_back = table.split()
    torch.manual_seed(SEED)
    outputs = len(table.classes) if table.classes else 1
    network = nn.Sequential(nn.Linear(table.x.shape[1], units), nn.ReLU(), nn.Linear(units, outputs))
    x, y = torch.from_numpy(table.x), torch.from_numpy(table.y)
    loss = nn.CrossEntropyLoss() if table.classes else nn.MSELoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=float(run.parameters.get("rate") or 0.01))
    batches = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x[learned], y[learned]), batch_size=64, shuffle=True
    )
    for _ in range(epochs):
        if run.ended:
            log.info("run %s is needed no more: %s", run.run, run.reason_ended)
            return
        for features, labels in batches:
            optimizer.zero_grad()
            predicted = network(features)
            loss(predicted if table.classes else predicted.squeeze(1), labels).backward()
            optimizer.step()
    whole = nn.Sequential(network, nn.Softmax(dim=1)) if table.classes else network
    whole.eval()
    with torch.no_grad():
        metrics = table.metrics(whole(x[held_back]).numpy(), table.y[held_back])
    answered = run.submit(table.wrap(export(whole, x.shape[1], table)), metrics=metrics, classes=table.classes)
    log.info("run %s has ended: %s predicts, %s", run.run, answered.version, metrics)


def export(network: nn.Module, columns: int, table: Table) -> bytes:
    """The network as an ONNX file, for any number of rows."""
    file, output = io.BytesIO(), "probabilities" if table.classes else "value"
    torch.onnx.export(
        network,
        torch.zeros(1, columns),
        file,
        input_names=["x"],
        output_names=[output],
        dynamic_axes={"x": {0: "rows"}, output: {0: "rows"}},
        opset_version=OPSET,
    )
    return file.getvalue()


if __name__ == "__main__":
    torch.set_num_threads(1)
    take_runs(command_line("pytorch", __doc__).parse_args(), train)
