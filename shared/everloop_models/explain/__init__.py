"""What each feature contributed to a prediction, exact where the model's family allows it; pure."""

from everloop_models.explain.attribution import AttributingModel, Attribution, ReferenceModel, score_of
from everloop_models.explain.explanation import explain

__all__ = ["AttributingModel", "Attribution", "ReferenceModel", "explain", "score_of"]
