"""One prediction by a loop's versions: one of them serves, the other predicts in shadow."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple

from everloop_learning.split import WITHOUT_CANARY, SplitAssignment, assign
from everloop_models import ModelPrediction
from everloop_schemas.envelope import Fields
from everloop_schemas.registry import BASELINE
from everloop_schemas.serving import Role, Shadow, WindowsUsed
from everloop_serving.domain.served_loop import Predictor, ServedLoop
from everloop_serving.errors import VersionFailed
from everloop_shared.personal.failures import describe

Endpoint = Literal["stream", "rest"]
"""Where an observation came from: the topic of computed features, or a request."""
REASON_LENGTH = 500
"""Characters of a version's failure that are reported, at most."""


class PredictionRequest(NamedTuple):
    """What to predict from. `cause` is the id of the event that led to it, `fingerprint` the observation's digest.

    `windows` is the state that the features were computed from; None where the loop has no windows. `version` is the
    one that the client asked for; None leaves the choice to the split. `explain_s` is how long an explanation may take,
    in seconds; 0 asks for none.
    """

    prediction_id: str
    entity: str
    features: Fields
    time: datetime
    cause: str
    fingerprint: str | None
    endpoint: Endpoint
    traceparent: str | None = None
    windows: WindowsUsed | None = None
    version: str | None = None
    explain_s: float = 0.0


class VersionFailure(NamedTuple):
    """A version that raised at a prediction, or returned what is not finite."""

    version: str
    reason: str


class PredictionResult(NamedTuple):
    """A prediction, the version that served and how it was chosen, the shadows, and the versions that failed."""

    prediction: ModelPrediction
    version: str
    role: Role
    propensity: float
    latency_ms: float
    shadows: tuple[Shadow, ...]
    failures: tuple[VersionFailure, ...]


class NotFinite(ValueError):
    """A model returned NaN or infinity."""


def predict(loop: ServedLoop, request: PredictionRequest, timer: Callable[[], float]) -> PredictionResult:
    """Predict with the version that the split chose, and with the other one in shadow.

    A version that fails gives way to the next: canary, champion, version 0, and the initial prediction of the spec.
    One that the request names gives way to none: VersionFailed is raised. `timer` counts seconds.
    """
    assignment, failures = _assign(loop, request), list[VersionFailure]()
    for predictor, role in loop.orders[assignment.canary]:
        if request.version not in (None, predictor.version):
            break
        start = timer()
        try:
            prediction = _require_finite(predictor.predict(request.features))
        except Exception as e:  # a model may raise anything, and the request is answered all the same
            failures.append(VersionFailure(predictor.version, _reason(loop, e)))
            continue
        latency_ms = (timer() - start) * 1000
        propensity = 1.0 if failures else assignment.propensity
        shadows = _predict_in_shadow(loop, predictor, request.features, failures) if loop.candidate else ()
        return PredictionResult(prediction, predictor.version, role, propensity, latency_ms, shadows, tuple(failures))
    if request.version is not None:
        raise VersionFailed(request.version, failures[0].reason)
    initial = ModelPrediction(loop.spec.initial_prediction, None)
    return PredictionResult(initial, BASELINE, "baseline", 1.0, 0.0, (), tuple(failures))


def _assign(loop: ServedLoop, request: PredictionRequest) -> SplitAssignment:
    if request.version is not None:
        return SplitAssignment(loop.champion.version != request.version, 1.0)
    if loop.candidate is None:
        return WITHOUT_CANARY
    unit = request.entity if loop.spec.rollout.split_by == "entity" else request.prediction_id
    return assign(loop.loop, unit, loop.share)


def _predict_in_shadow(
    loop: ServedLoop, served: Predictor, features: Fields, failures: list[VersionFailure]
) -> tuple[Shadow, ...]:
    """The predictions of the version that does not serve; one that has just failed is not called again."""
    assert loop.candidate is not None, "without it, nothing predicts in shadow"
    failed = {failure.version for failure in failures}
    shadows = []
    for predictor in (loop.champion, loop.candidate):
        if predictor is served or predictor.version in failed:
            continue
        try:
            prediction = _require_finite(predictor.predict(features))
        except Exception as e:
            failures.append(VersionFailure(predictor.version, f"in shadow: {_reason(loop, e)}"))
        else:
            shadows.append(
                Shadow(version=predictor.version, prediction=prediction.value, probabilities=prediction.probabilities)
            )
    return tuple(shadows)


def _require_finite(prediction: ModelPrediction) -> ModelPrediction:
    value, probabilities = prediction
    total = sum(probabilities.values()) if probabilities else 0.0
    if not math.isfinite(total) or (isinstance(value, float) and not math.isfinite(value)):
        raise NotFinite(f"not finite: {prediction.value!r}, {prediction.probabilities!r}"[:REASON_LENGTH])
    return prediction


def _reason(loop: ServedLoop, error: Exception) -> str:
    """Why a model failed; its error may quote features."""
    if loop.is_personal and not isinstance(error, NotFinite):
        return describe(error)[:REASON_LENGTH]
    return f"{type(error).__name__}: {error}"[:REASON_LENGTH]
