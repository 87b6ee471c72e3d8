"""What each feature contributed to a prediction, exact where the model's family allows it; pure."""

from everloop_models.explain.attribution import AttributingModel, Attribution, ReferenceModel, score_of
from everloop_models.explain.explanation import explain
from everloop_models.explain.importance import IMPORTANCE_ROWS, importance_of

__all__ = [
    "IMPORTANCE_ROWS",
    "AttributingModel",
    "Attribution",
    "ReferenceModel",
    "explain",
    "importance_of",
    "score_of",
]
