"""The metrics that a spec may name, computed alike by monitoring's evaluation and by training's triggers."""

from everloop_metrics.inputs import MetricInput, brier_loss, class_name, metric_input, probability_of
from everloop_metrics.metric import ERRORS, MetricSums, score_of

__all__ = [
    "ERRORS",
    "MetricInput",
    "MetricSums",
    "brier_loss",
    "class_name",
    "metric_input",
    "probability_of",
    "score_of",
]
