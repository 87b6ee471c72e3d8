"""The input of an outcome to a metric: its label, its prediction, and what the metric takes from the probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from everloop_schemas.envelope import Scalar


def class_name(label: Scalar) -> str:
    """A class as a key of `probabilities`: as JSON writes it, text without quotes."""
    return ("true" if label else "false") if isinstance(label, bool) else str(label)


def brier_loss(label: Scalar, probabilities: Mapping[str, float]) -> float:
    """Half the Brier score of these probabilities (Brier 1950), a loss in [0, 1]; of two classes the usual one."""
    truth = class_name(label)
    others = sum(p * p for name, p in probabilities.items() if name != truth)
    missed = 1.0 - probabilities.get(truth, 0.0)
    return min(1.0, (others + missed * missed) / 2)  # products, because a power that overflows raises


class MetricInput(NamedTuple):
    """An outcome as a metric needs it: label, prediction, and what the metric takes from the probabilities.

    That is the probability of `probability_of`; for `brier` it is the loss that follows from all of them, and for
    metrics that use no probabilities None.
    """

    label: Scalar
    value: Scalar
    probability: float | None = None


def probability_of(metric: str, label: Scalar, value: Scalar) -> Scalar | None:
    """The class whose probability a metric takes: of the label, of `true`, or of the predicted class; None for none."""
    if metric == "log_loss":
        return label
    if metric == "ece" and not isinstance(label, bool):
        return value
    return True if metric in ("roc_auc", "pr_auc", "ece") else None


def metric_input(metric: str, label: Scalar, value: Scalar, probabilities: Mapping[str, float] | None) -> MetricInput:
    """The input of an outcome to this metric; a prediction without probabilities counts as certain."""
    if metric == "brier":
        return MetricInput(label, value, brier_loss(label, probabilities) if probabilities else float(value != label))
    of = probability_of(metric, label, value)
    if of is None:
        return MetricInput(label, value)
    return MetricInput(label, value, probabilities.get(class_name(of), 0.0) if probabilities else float(value == of))
