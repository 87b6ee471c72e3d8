"""The metrics of a training: what the model says of rows, compared with their labels."""

from __future__ import annotations

import numpy as np

from everloop_models.batch.proof import Array, Said

SMALLEST_PROBABILITY = 1e-15


def scores(said: Said, labels: Array, prefix: str) -> dict[str, float]:
    """`<prefix>_accuracy` and `<prefix>_log_loss`, or `<prefix>_mae` and `<prefix>_rmse`."""
    if said.values is not None:
        errors = said.values - labels
        found = {"mae": float(np.abs(errors).mean()), "rmse": float(np.sqrt((errors**2).mean()))}
    else:
        found = {"accuracy": float(np.mean(said.labels == labels))}
        if said.probabilities is not None:
            of_label = said.probabilities[np.arange(len(labels)), labels]
            likely = np.clip(of_label, SMALLEST_PROBABILITY, 1.0)
            found["log_loss"] = float(-np.log(likely).mean())
    return {f"{prefix}_{name}": value for name, value in found.items()}
