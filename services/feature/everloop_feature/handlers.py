"""What feature does with each event: vectors from observations, outcomes from predictions and their labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from everloop_feature.deadlines import Deadlines
from everloop_feature.domain import PAGE_IDS, Entity, Join, Outcome, Waiting, heard, page_holds, too_late
from everloop_feature.errors import LabelTooLate, NothingToLearn, PredictionNeverCame, StateTooLarge, TimeOutOfBounds
from everloop_feature.leaving import Leaving
from everloop_feature.loops import Loops
from everloop_feature.ports import KeyedState, Notes
from everloop_feature.recency import Recency
from everloop_features.times import ON_THE_LOG, USUAL_TIMES, TimeLimits
from everloop_schemas.envelope import Event, derived_id
from everloop_schemas.feature import (
    EntityState,
    EntityStateData,
    FeaturesComputed,
    FeaturesComputedData,
    LabelJoined,
    LabelJoinedData,
    OutcomeObserved,
    OutcomeObservedData,
)
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_shared.clock import Clock, system_clock
from everloop_shared.messaging.dead_letter import dead_letter
from everloop_shared.messaging.routes import Position

SERVICE = "feature"
PAGE = "~"
"""No loop's name begins so: keys of put aside pages of ids do."""


@dataclass
class EntityHandlers:
    """Windows per entity: keyed by loop/entity."""

    loops: Loops
    entities: KeyedState
    notes: Notes
    ids_kept: int = 20_000
    max_state_bytes: int = 900_000
    recency: Recency = field(default_factory=Recency, init=False)
    max_entities: int = 100_000
    sweep_size: int = 2_000
    times: TimeLimits = USUAL_TIMES
    clock: Clock = system_clock
    leaving: Leaving = field(default_factory=Leaving, init=False)

    def __post_init__(self) -> None:
        self.loops.ended.append(lambda loop: self.leaving.add(self.recency.of(loop)))

    async def on_loop_state(self, event: LoopState, at: Position) -> list[Event]:
        """A loop is new, or its spec changed."""
        self.loops.apply(event)
        return []

    async def on_event_received(self, event: EventReceived, at: Position) -> list[Event]:
        """An observation by the stream door: its vector, and the entity's new state."""
        if wrong := self.times.wrong(event.time, self.clock(), ON_THE_LOG):
            return [_refused(event, at, TimeOutOfBounds(f"time {wrong}"))]
        changed = self._observe(event, at)
        if changed is None:
            return []
        self.notes.computed(event.loop)
        return [_computed(event, changed, self.loops.revision(event.loop)), *self._state(event, changed)]

    async def on_observation_received(self, event: ObservationReceived, at: Position) -> list[Event]:
        """An observation by the REST door, predicted already: the entity's new state only."""
        if wrong := self.times.wrong(event.time, self.clock(), ON_THE_LOG):
            return [_refused(event, at, TimeOutOfBounds(f"time {wrong}"))]
        changed = self._observe(event, at)
        return self._state(event, changed) if changed else []

    async def on_label_joined(self, event: LabelJoined, at: Position) -> list[Event]:
        """A label of the entity's own is known, for `lag: label`."""
        key = event.key().decode()
        plan = self.loops.plan(event.loop, event.revision)
        if self.entities.seen(key, at):
            return []
        entity, data = self._entity(key, at), event.data
        changed = entity.labelled(plan, data.label, data.observed or event.time, data.correction)
        if changed == entity:
            return []  # said again, or of an older observation: it leads to no other state, now or later
        self.entities.put(key, changed.dump(), at)
        self.recency.touch(at.partition, key)
        return self._state(event, changed)

    async def sweep(self, at: Position) -> list[Event]:
        """Forget what is left of lives of loops that ended, and the entities beyond the limit heard of longest ago.

        The next events of a forgotten entity find it new.
        """
        for key in self.leaving.take(at.partition, self.sweep_size):
            value = self.entities.get(key, at)
            if value is not None and Entity.load(value).life != self.loops.life(_loop(key)):
                self._forget(key, at)
        excess = self.recency.count(at.partition) - self.max_entities
        if excess > 0 and at.timestamp:  # before anything was read, records may come again that only their states know
            for key in self.recency.oldest(at.partition, min(excess, self.sweep_size)):
                self._forget(key, at)
        self.notes.entities(at.partition, self.recency.count(at.partition))
        return []

    def restored(self, entities: Iterable[tuple[int, str, bytes]]) -> None:
        """The state was read back: `entities` is all there is (partition, key, value), oldest first."""
        self.recency.clear()
        self.leaving.clear()
        for partition, key, _ in entities:
            if not key.startswith(PAGE):
                self.recency.touch(partition, key)
                if self.loops.lived(_loop(key)):
                    self.leaving.add([(partition, key)])

    def _forget(self, key: str, at: Position) -> None:
        value = self.entities.get(key, at)
        if value is not None:
            for page in self._pages(key, Entity.load(value)):
                self.entities.delete(page, at)
            self.entities.delete(key, at)
            self.notes.forgotten(_loop(key))
        self.recency.discard(at.partition, key)

    def _observe(self, event: EventReceived | ObservationReceived, at: Position) -> Entity | None:
        """The entity after an observation, None where it was applied or its id was seen before."""
        key = event.key().decode()
        plan = self.loops.plan(event.loop, event.revision)
        if self.entities.seen(key, at):
            return None
        entity = self._entity(key, at)
        if self._came_before(key, entity, event.id, at):
            self.notes.duplicate(event.loop)
            return None
        if entity.page_is_full:
            self.entities.put(self._page(key, entity.pages), entity.ids, at)
            entity = entity.turn_page()
        changed = entity.observe(plan, event.id, event.data.fields, event.time, event.data.received)
        value = changed.dump()
        if len(value) > self.max_state_bytes:
            raise StateTooLarge(
                f"the state of {key!r} would be {len(value):,} bytes, the limit is {self.max_state_bytes:,}; "
                "shorten the windows or the strings in them"
            )
        self.entities.put(key, value, at)
        self.recency.touch(at.partition, key)
        return changed

    def _entity(self, key: str, at: Position) -> Entity:
        """The entity in its loop's present life."""
        entity, life = Entity.load(self.entities.get(key, at)), self.loops.life(_loop(key))
        if entity.life == life:
            return entity
        for page in self._pages(key, entity):
            self.entities.delete(page, at)
        return Entity(life=life)

    def _state(self, event: EventReceived | ObservationReceived | LabelJoined, entity: Entity) -> list[Event]:
        """The entity's state for the REST path; an entity that remembers nothing needs none."""
        if not entity.state:
            return []
        return [
            EntityState(
                id=derived_id(event.loop, EntityState.type_name(), event.id),
                time=event.time,
                subject=event.data.entity,
                loop=event.loop,
                revision=event.revision or self.loops.life(event.loop),
                causationid=event.id,
                traceparent=event.traceparent,
                data=EntityStateData(entity=event.data.entity, applied=entity.applied, state=entity.state),
            )
        ]

    def _came_before(self, key: str, entity: Entity, event_id: str, at: Position) -> bool:
        if page_holds(entity.ids, event_id):
            return True
        return any(page_holds(self.entities.get(page, at) or b"", event_id) for page in self._pages(key, entity))

    def _pages(self, key: str, entity: Entity) -> list[str]:
        return [self._page(key, n) for n in range(max(0, entity.pages - self._pages_kept), entity.pages)]

    def _page(self, key: str, number: int) -> str:
        """Where a full page of ids is put aside; written before the state that counts it."""
        return f"{PAGE}{number % self._pages_kept}/{key}"

    @property
    def _pages_kept(self) -> int:
        return max(1, self.ids_kept // PAGE_IDS)


@dataclass
class JoinHandlers:
    """Predictions and the words on them: keyed by loop/prediction_id."""

    loops: Loops
    joins: KeyedState
    notes: Notes
    deadlines: Deadlines = field(default_factory=Deadlines)
    max_joins: int = 50_000
    sweep_size: int = 500
    times: TimeLimits = USUAL_TIMES
    clock: Clock = system_clock
    leaving: Leaving = field(default_factory=Leaving, init=False)

    def __post_init__(self) -> None:
        self.loops.ended.append(lambda loop: self.leaving.add(self.deadlines.of(loop)))

    async def on_prediction_made(self, event: PredictionMade, at: Position) -> list[Event]:
        """A prediction: outcomes for the labels that came before it."""
        key = event.key().decode()
        within_ms = self.loops.spec(event.loop, event.revision).label.within_s * 1000
        join = self._load(key, at)
        if self.joins.seen(key, at) or (join and join.prediction):
            return []
        waiting = join.waiting if join else ()
        join = (join or Join(at.timestamp + round(within_ms))).predicted(event)
        caused: list[Event] = []
        for word in waiting:
            join, events = self._hear(join, word)
            caused += events
        self._keep(key, join, at)
        return caused

    async def on_label_received(self, event: LabelReceived, at: Position) -> list[Event]:
        """A label or feedback: an outcome where the prediction is there, else it waits."""
        key = event.key().decode()
        within_ms = self.loops.spec(event.loop, event.revision).label.within_s * 1000
        if self.joins.seen(key, at):
            return []
        if wrong := self.times.wrong(event.time, self.clock(), ON_THE_LOG):
            return [_refused(event, at, TimeOutOfBounds(f"time {wrong}"))]
        join = self._load(key, at) or Join(at.timestamp + round(within_ms))
        word = Waiting.of(event, at)
        if join.prediction is None:
            self._keep(key, join.wait(word), at)
            return []
        join, caused = self._hear(join, word)
        self._keep(key, join, at)
        return caused

    async def sweep(self, at: Position) -> list[Event]:
        """Forget what is due by `at.timestamp`, and the oldest beyond the limit.

        A label whose prediction never came is marked first and leaves in the sweep after, when the mark is safe:
        so it can never be a dead letter and join after all.
        """
        partition, caused = at.partition, list[Event]()
        for key in self.leaving.take(partition, self.sweep_size):
            value = self.joins.get(key, at)
            if value is not None and self._past(key, Join.load(value)):
                self.joins.delete(key, at)
                self.deadlines.discard(partition, key)
        due = self.deadlines.due(partition, at.timestamp, self.sweep_size)
        excess = self.deadlines.count(partition) - self.max_joins if at.timestamp else 0  # as with entities
        evicted = self.deadlines.oldest(partition, min(excess, self.sweep_size)) if excess > 0 else []
        for key in dict.fromkeys([*due, *evicted]):
            join = self._load(key, at)
            if join and join.waiting:
                self.joins.put(key, join.overdue_now().dump(), at)
                continue
            if join:
                caused += [self._given_up(word, key) for word in join.overdue]
                self._note_gone(key, join, evicted=key not in due)
                self.joins.delete(key, at)
            self.deadlines.discard(partition, key)
        self.notes.kept(partition, self.deadlines.count(partition))
        return caused

    def restored(self, joins: Iterable[tuple[int, str, bytes]]) -> None:
        """The state was read back: `joins` is all there is (partition, key, value)."""
        self.deadlines.clear()
        self.leaving.clear()
        for partition, key, value in joins:
            if self.loops.lived(_loop(key)):
                self.leaving.add([(partition, key)])
            join = Join.load(value)
            self.deadlines.add(partition, key, join.due_ms)
            if join.truth:
                self.deadlines.settle(partition, key)

    def _load(self, key: str, at: Position) -> Join | None:
        """The join of a key in its loop's present life."""
        value = self.joins.get(key, at)
        join = Join.load(value) if value is not None else None
        return None if join is None or self._past(key, join) else join

    def _past(self, key: str, join: Join) -> bool:
        life = self.loops.life(_loop(key))
        return life == 0 or 0 < join.revision < life

    def _keep(self, key: str, join: Join, at: Position) -> None:
        self.joins.put(key, join.dump(), at)
        self.deadlines.add(at.partition, key, join.due_ms)
        if join.truth and join.corrections == 1:
            self.deadlines.settle(at.partition, key)

    def _hear(self, join: Join, word: Waiting) -> tuple[Join, list[Event]]:
        made, label = join.made, word.label
        assert made is not None, "words are heard once the prediction is there"
        spec = self.loops.spec(label.loop)
        if too_late(made, label, spec.label.within_s):
            self.notes.unjoined(label.loop, "late")
            reason = f"late: of {label.time}, but labels may come within {spec.label.within} of the observation"
            return join, [_parked(word, LabelTooLate(reason))]
        try:
            join, outcome = heard(join, spec.task, made, label)
        except ValueError as e:
            return join, [_parked(word, NothingToLearn(str(e)))]
        if outcome is None:
            return join, []
        self.notes.outcome(label.loop, label.data.kind)
        observed = _observed(made, outcome)
        truth = outcome.truth.label
        tell = truth is not None and self.loops.plan(label.loop).uses_label
        return join, [observed, _joined(made, observed, truth)] if tell and truth is not None else [observed]

    def _given_up(self, word: Waiting, key: str) -> Event:
        self.notes.unjoined(word.event["loop"], "never_came")
        return _parked(word, PredictionNeverCame(f"no prediction of id {word.event['subject']!r} came in time"))

    def _note_gone(self, key: str, join: Join, evicted: bool) -> None:
        if evicted and join.prediction and not join.truth:
            self.notes.unjoined(join.prediction["loop"], "evicted")


def _loop(key: str) -> str:
    return key.partition("/")[0]


def _computed(event: EventReceived, entity: Entity, revision: int | None) -> FeaturesComputed:
    return FeaturesComputed(
        id=derived_id(event.loop, FeaturesComputed.type_name(), event.id),
        time=event.time,
        subject=event.data.entity,
        loop=event.loop,
        revision=revision or event.revision,
        causationid=event.id,
        traceparent=event.traceparent,
        data=FeaturesComputedData(
            prediction_id=event.id,
            entity=event.data.entity,
            features=entity.features,
            received=event.data.received,
        ),
    )


def _observed(made: PredictionMade, outcome: Outcome) -> OutcomeObserved:
    """The outcome: the same bytes from the same two events, whichever came first."""
    word, said = outcome.word, made.data
    return OutcomeObserved(
        id=derived_id(made.loop, OutcomeObserved.type_name(), made.subject, outcome.correction),
        time=word.time,
        subject=made.subject,
        loop=made.loop,
        revision=made.revision,
        causationid=word.id,
        traceparent=word.traceparent or made.traceparent,
        data=OutcomeObservedData(
            prediction_id=made.subject,
            entity=said.entity,
            label=outcome.truth.label,
            rejected=outcome.truth.rejected,
            correction=outcome.correction,
            kind=word.data.kind,
            source=word.data.source,
            disputed=outcome.disputed or None,
            labelled=word.time,
            predicted=made.time,
            **said.model_dump(
                include={"features", "prediction", "probabilities", "version", "role", "propensity", "shadows"}
            ),
        ),
    )


def _joined(made: PredictionMade, observed: OutcomeObserved, label: object) -> LabelJoined:
    return LabelJoined(
        id=derived_id(made.loop, LabelJoined.type_name(), observed.id),
        time=observed.time,
        subject=made.data.entity,
        loop=made.loop,
        revision=made.revision,
        causationid=observed.id,
        traceparent=observed.traceparent,
        data=LabelJoinedData(
            prediction_id=made.subject,
            entity=made.data.entity,
            label=label,
            observed=made.data.observed,
            correction=observed.data.correction,
        ),
    )


def _parked(word: Waiting, error: Exception) -> Event:
    """A dead letter decided by a rule: the record itself was fine, so it says again what it said."""
    return _refused(word.label, word.at, error)


def _refused(event: Event, at: Position, error: Exception) -> Event:
    return dead_letter(SERVICE, at, event.key(), event.encode(), error)
