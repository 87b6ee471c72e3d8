"""What the workers of one serving ask each other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from everloop_features.observation import Observation


class PeerMessage(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A request from one worker to another; the answer is a list of encoded values."""


class PredictRows(PeerMessage, frozen=True, array_like=True, tag=True):
    """Predict from rows that belong to the worker; the answer has the encoded predictions in their order.

    Each row has an id, so that the message can be sent again. `deadline` is in seconds of the monotonic clock, which
    all processes of a machine share.
    """

    loop: str
    rows: Sequence[Observation]
    traceparent: str | None
    deadline: float | None
    version: str | None = None


class ClaimIds(PeerMessage, frozen=True, array_like=True, tag=True):
    """Note the entities that ids are used for, by id, or refuse an id that was used for another one; no values."""

    loop: str
    entities: dict[str, str]


class FindPrediction(PeerMessage, frozen=True, array_like=True, tag=True):
    """The encoded prediction of an id, or nothing."""

    loop: str
    prediction_id: str


class GetRevision(PeerMessage, frozen=True, array_like=True, tag=True):
    """The revision of a loop's spec that the worker serves, in digits, or nothing where it does not know the loop."""

    loop: str


class GetMetrics(PeerMessage, frozen=True, array_like=True, tag=True):
    """The worker's metrics in Prometheus's text format, or as OpenMetrics."""

    as_openmetrics: bool = False


AnyPeerMessage = PredictRows | ClaimIds | FindPrediction | GetRevision | GetMetrics
