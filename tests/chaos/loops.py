"""The loops of the chaos run and their data, whose labels are inverted half-way, so that models have to change."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

ALPHA = """
loop: alpha
task: binary
schema: {x: {type: number}, y: {type: number}, kind: {type: string, enum: [a, b]}}
features: [{fields: all}, {name: x_mean, mean: x, over: 5 events}, {name: y_diff, diff: y},
  {name: x_sum, sum: x, over: 20s}, {name: n, count: x, over: 20s}]
models: [{preset: logistic}, {preset: hoeffding_tree}]
metric: log_loss
refresh: {every: 50 outcomes}
retrain: {on_feedback: 60, cooldown: 100 outcomes}
gate: {confidence: 0.9, min_outcomes: 60}
rollout: {shadow: 30 predictions, canary: [25%, 50%], step: 30 outcomes}
"""
BETA = """
loop: beta
task: regression
schema: {x: {type: number}, y: {type: number}}
features: [{fields: all}, {name: x_mean, mean: x, over: 4 events}, {name: before, lag: label}]
label: {type: number}
models: [{preset: linear}]
metric: mae
refresh: {every: 40 outcomes}
retrain: {cooldown: 100 outcomes}
gate: {confidence: 0.9, min_outcomes: 60}
rollout: {shadow: 30 predictions, canary: [50%], step: 30 outcomes, split_by: entity}
"""
SPECS = {"alpha": ALPHA, "beta": BETA}


@dataclass
class DataGenerator:
    """Makes observations and their labels; `inverted` inverts the labels."""

    random: Random
    inverted: bool = False

    def fields(self, loop: str) -> dict[str, Any]:
        """An observation."""
        fields: dict[str, Any] = {"x": self.random.uniform(-1, 1), "y": self.random.gauss(0, 1)}
        return fields | {"kind": self.random.choice("ab")} if loop == "alpha" else fields

    def label(self, loop: str, fields: dict[str, Any]) -> bool | float:
        """Its label, with noise."""
        side = -1 if self.inverted else 1
        signal = side * (2 * fields["x"] + 0.3 * fields["y"])
        if loop == "alpha":
            return bool(signal + self.random.gauss(0, 0.3) > 0)
        return float(signal + self.random.gauss(0, 0.1))

    def other(self, label: bool | float) -> bool | float:
        """Another label, for a correction."""
        return (not label) if isinstance(label, bool) else float(label) + self.random.gauss(0, 1)
