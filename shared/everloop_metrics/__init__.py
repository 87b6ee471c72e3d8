"""The metrics that a spec may name, computed alike by monitoring's evaluation and by training's triggers."""

from everloop_metrics.metric import ERRORS, MetricInput, MetricSums, brier_loss, class_name, metric_input, score_of

__all__ = ["ERRORS", "MetricInput", "MetricSums", "brier_loss", "class_name", "metric_input", "score_of"]
