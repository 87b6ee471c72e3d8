"""What watches a loop beside its evaluation: parts with a state of their own, each turned on by the loop's spec."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple, Protocol, Self, runtime_checkable

from everloop_monitoring.domain.state import CountedOutcome
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.ingest import EventReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_schemas.training import ModelTrained


class WatchedOutcome(NamedTuple):
    """An outcome, or a correction of one, with how it was counted before (None for the first) and is counted now.

    The labels that count are `before.label` and `now.label`, None where an outcome counts without a label: a sum is
    right after a correction where what `before` added is subtracted and what `now` adds is added. Corrections that
    change no label, and duplicates, are not watched.
    """

    event: OutcomeObserved
    offset: int
    before: CountedOutcome | None
    now: CountedOutcome


class Watch(Protocol):
    """One part that watches one loop. A dataclass whose fields are its state, stored as JSON after each batch.

    It belongs to one loop and one lifetime. Its methods are pure: what they return depends on the state, the record
    and, for the time of an event, on `now`. The state is bounded, whatever the records hold.
    """

    kind: ClassVar[str]
    """The name under which the state is stored."""

    @classmethod
    def is_on(cls, spec: LoopSpec) -> bool:
        """Whether a loop with this spec is watched; where it is not, nothing is loaded or stored."""

    def follow(self, spec: LoopSpec) -> Self:
        """The watch for this spec: itself, or a new one where what the spec asks for has changed."""

    def add_prediction(self, event: PredictionMade, now: datetime) -> Sequence[Event]:
        """Add a prediction, before its label is known; the events that follow from it."""

    def add_outcome(self, outcome: WatchedOutcome, now: datetime) -> Sequence[Event]:
        """Add an outcome or its correction; the events that follow from it."""


@runtime_checkable
class FollowsVersions(Protocol):
    """A watch that is told of versions too."""

    def add_version(self, event: ModelTrained, now: datetime) -> None:
        """Add a version that a line has made, after the outcomes of its batch."""


@runtime_checkable
class ObservationWatch(Protocol):
    """A watch that is given the observations too, of ingest and by REST, in the order in which they arrive.

    It is told of those that were refused as well.
    """

    def add_observation(self, event: EventReceived | ObservationReceived, now: datetime) -> Sequence[Event]:
        """Add an observation; the events that follow from it."""

    def add_refusals(self, letter: DeadLetter, now: datetime) -> Sequence[Event]:
        """Add the observations that ingest refused because of what the loop expects; the events that follow."""
