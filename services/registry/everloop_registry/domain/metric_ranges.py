"""The values that a metric can have."""

from __future__ import annotations

import math

METRIC_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "precision", "recall", "f1", "f1_macro"), (0, 1)),
    **dict.fromkeys(("roc_auc", "pr_auc", "brier", "ece"), (0, 1)),
    "r2": (-math.inf, 1),
    **dict.fromkeys(("log_loss", "mae", "rmse", "mape", "pinball", "pinball_10", "pinball_90"), (0, math.inf)),
}
"""By metric, the interval of its values; `retrain.below` must lie inside it."""
