"""What ingest does with each entry of a request, and with each state of a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Self
from uuid import uuid4

from everloop_features.expectations import errors_of, refused_by
from everloop_features.labels import CheckedLabel
from everloop_features.observation import Observation
from everloop_features.observation_decoder import ObservationDecoder, compile_decoder
from everloop_features.times import DEFAULT_TIME_LIMITS, TimeLimits
from everloop_ingest.domain.documents import Entry, RequestLimits
from everloop_ingest.domain.labels import read_label
from everloop_ingest.domain.observations import read_observation
from everloop_ingest.domain.open_letters import OpenLetter
from everloop_ingest.domain.refusals import Refusal, RefusalLetters
from everloop_ingest.domain.sealed_size import size_limit
from everloop_ingest.domain.sources.mapping import SourceLimits, SourceMapping
from everloop_ingest.errors import SourceNotFound
from everloop_learning.loops import KnownLoops
from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import DataEvent, Event
from everloop_schemas.ingest import EventReceived, EventReceivedData, LabelReceived, LabelReceivedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState
from everloop_schemas.sources import SourceSpec
from everloop_shared.clock import Clock
from everloop_shared.cloudevents import CloudEvent
from everloop_shared.commands import ANONYMOUS, Actor
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import Position, Record
from everloop_shared.personal.port import PersonalValues
from everloop_shared.personal.records import holder_of
from everloop_shared.spans.recorders import admitted
from everloop_shared.strict_json import NDJSON
from everloop_shared.tracing import valid_traceparent

EndpointName = Literal["events", "labels", "feedback"]


@dataclass(frozen=True)
class RefusedEntry:
    """An entry that was rejected: its index in the request, its id if it has one, and its errors."""

    index: int
    id: str | None
    errors: list[FieldError]


@dataclass
class CheckedEntries:
    """The result of checking entries: the events to publish, the ids to report, and the rejected entries.

    `refusals` are the rejected observations that only break what the loop expects.
    """

    events: list[Event] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    rejected: list[RefusedEntry] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def __iadd__(self, other: CheckedEntries) -> Self:
        self.events += other.events
        self.ids += other.ids
        self.rejected += other.rejected
        self.refusals += other.refusals
        return self


@dataclass
class Sealing:
    """Seals the personal values of what leaves ingest; where a loop has none, events leave as they are."""

    loops: KnownLoops
    values: PersonalValues

    async def seal(self, loop: str, outgoing: Sequence[Event | OpenLetter]) -> list[Event]:
        """What may be published, in the same order; raises Unavailable while the keys are away."""
        names = self.names_of(loop)
        if names and outgoing:
            await self.values.prepare(loop, filter(None, map(_holder_of, outgoing)))
        return [self._seal(one, names) for one in outgoing]

    def names_of(self, loop: str) -> frozenset[str]:
        """The personal fields of a loop."""
        state = self.loops.get(loop)
        return state.data.spec.personal_fields if state else frozenset()

    def _seal(self, one: Event | OpenLetter, names: frozenset[str]) -> Event:
        if isinstance(one, OpenLetter):
            return self._seal_letter(one)
        return self.values.seal_event_now(one, names) if names and isinstance(one, DataEvent) else one

    def _seal_letter(self, open_letter: OpenLetter) -> DeadLetter:
        letter, data = open_letter.letter, open_letter.letter.data
        held = {"key": data.key, "value": data.value, "headers": data.headers}
        token = self.values.seal_now(letter.loop, open_letter.entity, held)
        return letter.copy_with(data=data.model_copy(update=dict.fromkeys(held) | {"personal": token}))


def _holder_of(one: Event | OpenLetter) -> str | None:
    """Whose key seals it; None where it needs none."""
    if isinstance(one, OpenLetter):
        return one.entity
    if isinstance(one, LabelReceived) and one.data.comment is None:
        return None
    return holder_of(one) if isinstance(one, DataEvent) else None


@dataclass
class Handlers:
    """Checks entries against the specs of `loops`. `max_event_bytes` limits the size of an encoded event."""

    loops: KnownLoops
    sealing: Sealing
    clock: Clock
    max_event_bytes: int
    times: TimeLimits = DEFAULT_TIME_LIMITS
    new_id: Callable[[], str] = field(default=lambda: str(uuid4()))
    on_loop_change: Callable[[], None] = field(default=lambda: None)
    _letters: RefusalLetters = field(default_factory=RefusalLetters)
    _decoders: dict[str, tuple[LoopSpec, ObservationDecoder]] = field(default_factory=dict)

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """Keep the state of a new loop, or of a new revision."""
        self.loops.apply(event)
        self.on_loop_change()
        return []

    def decode_observations(self, loop: str, kind: str, body: bytes, limits: RequestLimits) -> list[Entry] | None:
        """The entries of a body of plain observations that all fit; None leaves it to `read_entries`, which is slower.

        `kind` is the content type. Raises LoopNotFound.
        """
        if len(body) > limits.entry_bytes and body[:1] != b"[":
            return None
        decoder = self._decoder(loop)
        if kind in NDJSON:
            found = decoder.decode_lines(body, limits.entries)
        elif body[:1] == b"{":
            found = None if (one := decoder.decode(body)) is None else [one]
        else:
            found = decoder.decode_list(body, limits.entries)
        return None if found is None else [Entry(observation) for observation in found]

    def _decoder(self, loop: str) -> ObservationDecoder:
        spec = self.loops.require(loop).data.spec
        known = self._decoders.get(loop)
        if known is None or known[0] is not spec:
            known = self._decoders[loop] = spec, compile_decoder(spec)
        return known[1]

    def check_entries(
        self,
        loop: str,
        endpoint: EndpointName,
        entries: Sequence[Entry],
        trace: str | None,
        first: int = 0,
        actor: Actor = ANONYMOUS,
    ) -> CheckedEntries:
        """Turn entries into events; `first` is the index of the first one in the request. Raises LoopNotFound."""
        state, now, checked = self.loops.require(loop), self.clock(), CheckedEntries()
        limit = size_limit(state.data.spec, self.max_event_bytes)
        for index, entry in enumerate(entries, first):
            event = self._build_event(
                state, endpoint, entry, now, admitted("ingest", valid_traceparent(entry.traceparent)) or trace, actor
            )
            if isinstance(event, Event) and len(event.encode()) > limit:
                event = [FieldError("data", f"is over {limit:,} bytes; send less in one event")]
            if isinstance(event, Refusal):
                checked.refusals.append(event)
                event = list(event.errors)
            if isinstance(event, list):
                checked.rejected.append(RefusedEntry(index, _given_id(entry), event))
            else:
                checked.events.append(event)
                checked.ids.append(event.id if endpoint == "events" else event.subject)
        return checked

    async def seal(self, loop: str, checked: CheckedEntries) -> None:
        """Seal the personal values of accepted and refused entries; raises Unavailable while the keys are away."""
        if not self.sealing.names_of(loop):
            return
        refused = await self.sealing.seal(loop, [refusal.observation for refusal in checked.refusals])
        checked.events = await self.sealing.seal(loop, checked.events)
        checked.refusals = [
            replace(refusal, observation=observation)
            for refusal, observation in zip(checked.refusals, refused, strict=True)
            if isinstance(observation, EventReceived)
        ]

    def write_letters(self, loop: str, checked: CheckedEntries) -> list[DeadLetter]:
        """The dead letters of the observations of one request that the loop refuses."""
        return self._letters.write(loop, checked.refusals, self.clock())

    async def read_source_record(self, loop: str, source: str, record: Record) -> list[Event]:
        """The events of a record of a source, by its present mapping and under the ids that it gives the record.

        Raises LoopNotFound, SourceNotFound, SourceRecordRejected, or Unavailable while the keys are away.
        """
        state, spec = self.loops.require(loop), self._find_source(loop, source)
        limits = SourceLimits(self.times, self.max_event_bytes)
        return await self.sealing.seal(loop, SourceMapping(state, spec, limits).read(record, self.clock()))

    def source_actions(self, loop: str, source: str) -> list[str]:
        """What a record of a source may become, as actions; raises LoopNotFound or SourceNotFound."""
        spec = self._find_source(loop, source)
        gives = {"events.publish": spec.events, "labels.publish": spec.labels}
        return [action for action, mapping in gives.items() if mapping is not None]

    def _find_source(self, loop: str, source: str) -> SourceSpec:
        sources = self.loops.require(loop).data.spec.sources
        if (spec := next((one for one in sources if one.name == source), None)) is None:
            raise SourceNotFound(f"loop {loop} has no source {source[:80]!r}: its loop file names them")
        return spec

    def _build_event(
        self, state: LoopState, endpoint: EndpointName, entry: Entry, now: datetime, trace: str | None, actor: Actor
    ) -> Event | Refusal | list[FieldError]:
        spec = state.data.spec
        if endpoint == "events":
            observation = read_observation(spec, entry)
            if isinstance(observation, list):
                return observation
            if wrong := self._time_errors(observation, now):
                return wrong + errors_of(refused_by(spec, observation.fields))
            event = self._build_event_received(state, observation, now, trace)
            broken = refused_by(spec, observation.fields)
            return Refusal(event, broken, tuple(errors_of(broken))) if broken else event
        label = read_label(spec, "label" if endpoint == "labels" else "feedback", entry)
        if isinstance(label, list):
            return label
        return self._time_errors(label, now) or self._build_label_received(state, label, now, trace, actor)

    def _time_errors(self, entry: Observation | CheckedLabel, now: datetime) -> list[FieldError]:
        error = self.times.find_violation(entry.time, now)
        return [FieldError("time", error)] if error else []

    def _build_event_received(
        self, state: LoopState, observation: Observation, now: datetime, trace: str | None
    ) -> EventReceived:
        return EventReceived(
            id=observation.id or self.new_id(),
            time=observation.time or now,
            subject=observation.entity,
            loop=state.loop,
            revision=state.revision,
            traceparent=trace,
            data=EventReceivedData(entity=observation.entity, fields=observation.fields, received=now),
        )

    def _build_label_received(
        self, state: LoopState, label: CheckedLabel, now: datetime, trace: str | None, actor: Actor
    ) -> LabelReceived:
        known: dict[str, Any] = {} if actor == ANONYMOUS else actor.as_fields()
        return LabelReceived(
            id=label.event_id(state.loop) or self.new_id(),
            time=label.time or now,
            subject=label.prediction_id,
            loop=state.loop,
            revision=state.revision,
            traceparent=trace,
            **known,
            data=LabelReceivedData(
                prediction_id=label.prediction_id,
                kind=label.kind,
                label=label.label,
                correct=label.correct,
                comment=label.comment,
                source=label.source,
                received=now,
            ),
        )


def _given_id(entry: Entry) -> str | None:
    """The id that a rejected entry has, if it can be read."""
    if isinstance(entry.value, CloudEvent | Observation):
        return entry.value.id and entry.value.id[:200]
    given = entry.value.get("id") if isinstance(entry.value, dict) else None
    return given[:200] if isinstance(given, str) else None
