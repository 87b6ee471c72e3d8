"""Explains a prediction: by the model's own attribution where it has one, by permutations of features elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import isclose, isfinite

from everloop_models.explain.attribution import AttributingModel, Attribution, score_of
from everloop_models.explain.permutation import MAX_CALLS, SECONDS, attribute_by_permutation
from everloop_models.model import Model, ModelPrediction
from everloop_schemas.envelope import Fields
from everloop_schemas.serving import Explanation

TOLERANCE = 1e-6
"""How far an attribution may be from the model's score; one that is further away is not used."""
SAID_TOLERANCE = 1e-5
"""How far what follows from the score may be from the prediction, which some models make in single precision."""


def explain(
    model: Model,
    features: Fields,
    prediction: ModelPrediction,
    seed: str,
    *,
    seconds: float = SECONDS,
    calls: int = MAX_CALLS,
    timer: Callable[[], float] = time.perf_counter,
) -> Explanation | None:
    """What each feature contributed to this prediction of the model; None where that takes longer than allowed.

    It may take about `calls` predictions.

    Equal arguments give equal explanations, as long as permutations end within `seconds`. Never raises.
    """
    try:
        found = _attribute(model, features, prediction)
        if found is None:
            found = attribute_by_permutation(
                model, features, prediction, seed, seconds=seconds, calls=calls, timer=timer
            )
    except Exception:  # a model may raise anything; its prediction stands all the same
        return None
    if found is None or not isfinite(found.total):
        return None
    of, _ = score_of(prediction)
    return Explanation(
        method=found.method, of=of, scale=found.scale, base=found.base, contributions=found.contributions
    )


def _attribute(model: Model, features: Fields, prediction: ModelPrediction) -> Attribution | None:
    """The model's own attribution, if its parts sum to the score, and the score is that of the prediction."""
    if not isinstance(model, AttributingModel):
        return None
    found = model.attribute(features, prediction.value)
    if found is None or not isclose(found.total, found.score, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        return None
    said = found.said
    agrees = said is None or isclose(said, score_of(prediction)[1], rel_tol=SAID_TOLERANCE, abs_tol=SAID_TOLERANCE)
    return found if agrees else None
