"""What ingest does with each entry that comes in, and with each loop it hears of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import uuid4

from everloop_features.labels import CheckedLabel
from everloop_features.observation import Observation
from everloop_features.times import DEFAULT_TIME_LIMITS, TimeLimits
from everloop_ingest.domain.documents import Entry
from everloop_ingest.domain.labels import label
from everloop_ingest.domain.observations import observation
from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived, EventReceivedData, LabelReceived, LabelReceivedData
from everloop_schemas.registry import LoopState
from everloop_shared.clock import Clock
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import Position
from everloop_shared.tracing import valid_traceparent

Door = Literal["events", "labels", "feedback"]


@dataclass(frozen=True)
class Rejection:
    """An entry that was refused: where it stood, the id it named, and why."""

    index: int
    id: str | None
    errors: list[FieldError]


@dataclass
class Received:
    """What a request came to: the events to publish with the ids they are known by, and what was refused."""

    events: list[Event] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


@dataclass
class Handlers:
    """Checks entries against the loops of `loops`. `max_event_bytes` bounds an event on the wire."""

    loops: KnownLoops
    clock: Clock
    max_event_bytes: int
    times: TimeLimits = DEFAULT_TIME_LIMITS
    new_id: Callable[[], str] = field(default=lambda: str(uuid4()))

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """Learn of a loop, or of its new revision."""
        self.loops.apply(event)
        return []

    def receive(self, loop: str, door: Door, entries: Sequence[Entry], trace: str | None, first: int = 0) -> Received:
        """Turn entries into events; the first of them stands at index `first`. Raises LoopNotFound."""
        state, now, received = self.loops.require(loop), self.clock(), Received()
        for index, entry in enumerate(entries, first):
            event = self._event(state, door, entry, now, valid_traceparent(entry.traceparent) or trace)
            if isinstance(event, Event) and len(event.encode()) > self.max_event_bytes:
                event = [FieldError("data", f"is over {self.max_event_bytes:,} bytes; send less in one event")]
            if isinstance(event, list):
                received.rejected.append(Rejection(index, _named(entry), event))
            else:
                received.events.append(event)
                received.ids.append(event.id if door == "events" else event.subject)
        return received

    def _event(
        self, state: LoopState, door: Door, entry: Entry, now: datetime, trace: str | None
    ) -> Event | list[FieldError]:
        if door == "events":
            seen = observation(state.data.spec, entry)
            wrong = seen if isinstance(seen, list) else self._untimely(seen, now)
            return wrong or self._event_received(state, seen, now, trace)  # type: ignore[arg-type]
        said = label(state.data.spec, "label" if door == "labels" else "feedback", entry)
        wrong = said if isinstance(said, list) else self._untimely(said, now)
        return wrong or self._label_received(state, said, now, trace)  # type: ignore[arg-type]

    def _untimely(self, entry: Observation | CheckedLabel, now: datetime) -> list[FieldError]:
        wrong = self.times.find_violation(entry.time, now)
        return [FieldError("time", wrong)] if wrong else []

    def _event_received(self, state: LoopState, seen: Observation, now: datetime, trace: str | None) -> EventReceived:
        return EventReceived(
            id=seen.id or self.new_id(),
            time=seen.time or now,
            subject=seen.entity,
            loop=state.loop,
            revision=state.revision,
            traceparent=trace,
            data=EventReceivedData(entity=seen.entity, fields=seen.fields, received=now),
        )

    def _label_received(self, state: LoopState, said: CheckedLabel, now: datetime, trace: str | None) -> LabelReceived:
        return LabelReceived(
            id=said.event_id(state.loop) or self.new_id(),
            time=said.time or now,
            subject=said.prediction_id,
            loop=state.loop,
            revision=state.revision,
            traceparent=trace,
            data=LabelReceivedData(
                prediction_id=said.prediction_id,
                kind=said.kind,
                label=said.label,
                correct=said.correct,
                comment=said.comment,
                source=said.source,
                received=now,
            ),
        )


def _named(entry: Entry) -> str | None:
    """The id a refused entry gave itself, as far as it can be told."""
    if not isinstance(entry.value, dict):
        return None
    said = entry.value.get("id")
    return said[:200] if isinstance(said, str) else None
