"""What an outcome needs of a prediction, read from the stored event without decoding what is only repeated."""

from __future__ import annotations

from typing import Any

import msgspec

from everloop_schemas.envelope import Scalar, Timestamp

NOTHING = msgspec.Raw(b"null")


class StoredPredictionData(msgspec.Struct, frozen=True):
    """The data of a prediction; JSON that an outcome repeats as it is stays undecoded."""

    entity: str
    prediction: Scalar
    observed: Timestamp
    features: msgspec.Raw
    version: str
    role: msgspec.Raw
    propensity: msgspec.Raw
    probabilities: msgspec.Raw = NOTHING
    shadows: msgspec.Raw = msgspec.Raw(b"[]")
    personal: str | None = None


class StoredPrediction(msgspec.Struct, frozen=True):
    """A `PredictionMade` that was decoded and validated when it came."""

    subject: str
    loop: str
    time: Timestamp
    data: StoredPredictionData
    revision: int = 0
    traceparent: str | None = None

    @classmethod
    def read(cls, wire: bytes) -> StoredPrediction:
        """The prediction in its wire form."""
        return _decoder.decode(wire)

    def repeated(self) -> dict[str, Any]:
        """What an outcome repeats of its prediction, for the fields of `OutcomeObservedData`."""
        data = self.data
        return {
            "features": data.features,
            "prediction": data.prediction,
            "probabilities": None if data.probabilities is NOTHING else data.probabilities,
            "version": data.version,
            "role": data.role,
            "propensity": data.propensity,
            "shadows": data.shadows,
            "personal": data.personal,
        }


_decoder = msgspec.json.Decoder(StoredPrediction)
