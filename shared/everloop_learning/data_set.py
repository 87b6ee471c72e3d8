"""The rows of a data set, and the form of them whose digest identifies it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import NamedTuple, Self

import msgspec

from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.feature import OutcomeObserved

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Row(NamedTuple):
    """One learnable outcome: the features as they were used for the prediction, and the label that is learned.

    `offset` is that of the record that brought the label, `time` that of the observation. `entity` is beside the data
    set: neither its lines nor its digest have it. `sealed` is the record where it has features that were not opened.
    """

    offset: int
    time: datetime
    prediction_id: str
    features: Fields
    label: Scalar
    entity: str = ""
    sealed: OutcomeObserved | None = None

    def encode(self) -> bytes:
        """One line of JSON, the same bytes from the same row: fields in this order, features sorted by name, UTC.

        The numbers are Python's own shortest ones, so that no library and none of its releases changes a digest.
        """
        time = self.time.astimezone(UTC).isoformat().replace("+00:00", "Z")
        row = {
            "offset": self.offset,
            "time": time,
            "prediction_id": self.prediction_id,
            "features": dict(sorted(self.features.items())),
            "label": self.label,
        }
        return _encoder.encode(row).encode() + b"\n"

    def encode_with_entity(self, line: bytes | None = None) -> bytes:
        """The line, with the entity at its end; `line` is that of `encode` where it is known already."""
        return (line or self.encode())[:-2] + f',"entity":{_encoder.encode(self.entity)}}}\n'.encode()

    @classmethod
    def decode(cls, line: bytes | str) -> Self:
        """The row in one line, with its entity where the line has one; raises ValueError or KeyError where none is."""
        row = msgspec.json.decode(line)
        time = datetime.fromisoformat(row["time"])
        return cls(row["offset"], time, row["prediction_id"], row["features"], row["label"], row.get("entity", ""))


class RowsDigest:
    """The sha256 of rows in order, as `Row.encode` writes them, and their number."""

    def __init__(self) -> None:
        self._sha256, self.rows = sha256(), 0

    def add(self, lines: Iterable[bytes]) -> None:
        """Take in the next encoded rows."""
        for line in lines:
            self._sha256.update(line)
            self.rows += 1

    def hexdigest(self) -> str:
        """The digest of the rows so far."""
        return self._sha256.hexdigest()
