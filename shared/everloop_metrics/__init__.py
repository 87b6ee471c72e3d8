"""The metrics that a spec may name, the same wherever they are counted: by the evaluation, and by what starts a run."""

from everloop_metrics.metric import ERRORS, Heard, Sums, brier, class_name, heard, score_of

__all__ = ["ERRORS", "Heard", "Sums", "brier", "class_name", "heard", "score_of"]
