"""Builds the events that serving publishes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from everloop_schemas.envelope import Fields, derived_id
from everloop_schemas.ingest import EventReceivedData
from everloop_schemas.serving import (
    ObservationReceived,
    PredictionMade,
    PredictionMadeData,
    VersionState,
    VersionStateData,
)
from everloop_serving.domain.predict import PredictionRequest, PredictionResult
from everloop_serving.domain.served_loop import ServedLoop

PREDICTION_MADE = PredictionMade.type_name()
VERSION_STATE = VersionState.type_name()
VersionStatus = Literal["ready", "failed", "fell_back"]


def build_prediction_event(
    loop: ServedLoop, request: PredictionRequest, result: PredictionResult, now: datetime
) -> PredictionMade:
    """The prediction, with all that training and monitoring need of it; scores of anomalies learn the observation."""
    anomalies = loop.anomalies
    return PredictionMade(
        id=derived_id(loop.loop, PREDICTION_MADE, request.prediction_id),
        time=now,
        subject=request.prediction_id,
        loop=loop.loop,
        revision=loop.revision,
        causationid=request.cause,
        traceparent=request.traceparent,
        data=PredictionMadeData(
            entity=request.entity,
            features=request.features,
            prediction=result.prediction.value,
            probabilities=result.prediction.probabilities,
            version=result.version,
            role=result.role,
            propensity=result.propensity,
            latency_ms=result.latency_ms,
            observed=request.time,
            door=request.endpoint,
            shadows=result.shadows,
            fingerprint=request.fingerprint,
            windows=request.windows,
            anomaly=None if anomalies is None else anomalies.score(request.features),
        ),
    )


def build_observation_event(
    loop: ServedLoop, request: PredictionRequest, fields: Fields, now: datetime
) -> ObservationReceived:
    """The observation of a REST prediction, for feature to apply to the entity's windows."""
    return ObservationReceived(
        id=request.prediction_id,
        time=request.time,
        subject=request.entity,
        loop=loop.loop,
        revision=loop.revision,
        traceparent=request.traceparent,
        data=EventReceivedData(entity=request.entity, fields=fields, received=now),
    )


def build_version_state_event(
    loop: str,
    revision: int,
    version: str,
    status: VersionStatus,
    now: datetime,
    *,
    instance: str,
    reason: str | None = None,
    serving: str | None = None,
    traceparent: str | None = None,
) -> VersionState:
    """How a version is on this instance; the same version and status give the same event id."""
    return VersionState(
        id=derived_id(loop, VERSION_STATE, version, instance, status),
        time=now,
        subject=version,
        loop=loop,
        revision=revision,
        traceparent=traceparent,
        data=VersionStateData(version=version, instance=instance, state=status, reason=reason, serving=serving),
    )


def describe_predictions(predictions: Sequence[PredictionMade]) -> dict[str, Any]:
    """What the span of a request says of its predictions: how many, and by which version, where it is one."""
    described: dict[str, Any] = {"everloop.predictions": len(predictions)}
    if len({prediction.data.version for prediction in predictions}) == 1:
        described |= predictions[0].span_attributes()
    return described
