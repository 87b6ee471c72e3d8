"""The bodies of answers with predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from everloop_schemas.serving import PredictionMade

_encoder = msgspec.json.Encoder()


def render(prediction: PredictionMade) -> dict[str, Any]:
    """A prediction for the client."""
    data = prediction.data
    body: dict[str, Any] = {"id": prediction.subject, "prediction": data.prediction}
    if data.probabilities is not None:
        body["probabilities"] = data.probabilities
    body["version"], body["role"], body["features"] = data.version, data.role, data.features
    if data.anomaly is not None:
        body["anomaly"] = data.anomaly
    if data.explanation is not None:
        body["explanation"] = msgspec.to_builtins(data.explanation)
    return body


def encode_one(prediction: PredictionMade) -> bytes:
    """One prediction, as JSON."""
    return _encoder.encode(render(prediction))


def encode_list(predictions: Sequence[PredictionMade]) -> bytes:
    """Predictions, as a JSON list."""
    return _encoder.encode([render(prediction) for prediction in predictions])


def encode_lines(predictions: Sequence[PredictionMade]) -> bytes:
    """Predictions, a line of JSON each."""
    return _encoder.encode_lines([render(prediction) for prediction in predictions])


def encode(value: Any) -> bytes:
    """Anything else, as JSON."""
    return _encoder.encode(value)
