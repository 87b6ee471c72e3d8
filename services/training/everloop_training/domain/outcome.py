"""An outcome as the learner needs it: small, quick to send to another process."""

from __future__ import annotations

from typing import NamedTuple

from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.feature import OutcomeObserved


class Outcome(NamedTuple):
    """One record of the outcome log, of `size` bytes; `time` is when it was put there, in seconds since the epoch."""

    offset: int
    time: float
    id: str
    features: Fields
    label: Scalar | None
    first: bool
    feedback: bool
    prediction: Scalar
    probabilities: dict[str, float] | None
    size: int = 0
    prediction_id: str = ""
    source: str | None = None

    @property
    def learnable(self) -> bool:
        """The first truth of a prediction (see `FirstLabels`): corrections and "not this" are never learned."""
        return self.first and self.label is not None


def outcome_of(event: OutcomeObserved, offset: int, logged_ms: int = 0, size: int = 0) -> Outcome:
    """What the learner needs of an event at an offset; where the log does not say when, the event's own time counts.

    The log's time, because a label may be dated as its sender likes: it must not move a schedule.
    """
    data = event.data
    return Outcome(
        offset=offset,
        time=logged_ms / 1000 if logged_ms else event.time.timestamp(),
        id=event.id,
        features=data.features,
        label=data.label,
        first=data.correction == 0,
        feedback=data.kind == "feedback",
        prediction=data.prediction,
        probabilities=data.probabilities,
        size=size,
        prediction_id=data.prediction_id,
        source=data.source,
    )
