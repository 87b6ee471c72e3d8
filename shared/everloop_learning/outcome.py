"""An outcome as learning needs it: small, and quick to send to another process."""

from __future__ import annotations

from typing import NamedTuple

from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.feature import OutcomeObserved


class Outcome(NamedTuple):
    """One record of the outcome log, of `size` bytes, appended at `time` (seconds since the epoch).

    `first` says that its label is the first that counts for its prediction (see `FirstLabels`). An `erased` one is of
    a person whose personal values were destroyed: it counts, but no line learns it or is scored by it. `opened` is when
    its personal values were opened, in seconds since the epoch; 0 where it has none.
    """

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
    erased: bool = False
    opened: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it has the first label of its prediction: corrections, and feedback without one, do not count."""
        return self.first and self.label is not None

    @property
    def learnable(self) -> bool:
        """Whether lines learn it."""
        return self.counts and not self.erased

    @classmethod
    def from_event(cls, event: OutcomeObserved, offset: int, appended_ms: int = 0, size: int = 0) -> Outcome:
        """The outcome in the event at an offset.

        `appended_ms` is the broker's time of the record, because a sender may date a label as it likes, and a schedule
        must not follow that; without it the event's own time is taken.
        """
        data = event.data
        return cls(
            offset=offset,
            time=appended_ms / 1000 if appended_ms else event.time.timestamp(),
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
