"""What feature does with each observation, and with each label of an entity's own: vectors and windows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from everloop_feature import records
from everloop_feature.domain import MARK_BYTES, PAGE_IDS, Entity, Seen, seen_under
from everloop_feature.errors import IdTaken, StateTooLarge, TimeOutOfBounds
from everloop_feature.events import computed, entity_state, refused
from everloop_feature.leaving import Leaving
from everloop_feature.loops import Loops, loop_of
from everloop_feature.ports import KeyedState, Notes
from everloop_feature.recency import KEY_BYTES, Recency
from everloop_features.observation import fingerprint
from everloop_features.times import ON_THE_LOG, USUAL_TIMES, TimeLimits
from everloop_schemas.envelope import Event
from everloop_schemas.feature import LabelJoined
from everloop_schemas.ingest import EventReceived
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import ObservationReceived
from everloop_shared.clock import Clock, system_clock
from everloop_shared.messaging.routes import Position

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
    max_entity_bytes: int = 200_000_000
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
            return [refused(event, at, TimeOutOfBounds(f"time {wrong}"))]
        observed = self._observe(event, at)
        if observed is None:
            return []
        self.notes.computed(event.loop)
        changed, printed = observed
        return [
            computed(event, changed, printed, self.loops.revision(event.loop)),
            *entity_state(event, changed, self.loops.life(event.loop)),
        ]

    async def on_observation_received(self, event: ObservationReceived, at: Position) -> list[Event]:
        """An observation by the REST door, predicted already: the entity's new state only."""
        if wrong := self.times.wrong(event.time, self.clock(), ON_THE_LOG):
            return [refused(event, at, TimeOutOfBounds(f"time {wrong}"))]
        observed = self._observe(event, at)
        return entity_state(event, observed[0], self.loops.life(event.loop)) if observed else []

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
        value = changed.dump()
        self.entities.put(key, value, at)
        self._touch(key, changed, value, at.partition)
        return entity_state(event, changed, self.loops.life(event.loop))

    async def sweep(self, at: Position) -> list[Event]:
        """Forget what is left of lives of loops that ended, and the entities beyond the limit heard of longest ago.

        The next events of a forgotten entity find it new.
        """
        for key in self.leaving.take(at.partition, self.sweep_size):
            value = self.entities.get(key, at)
            if value is not None and Entity.load(value).life != self.loops.life(loop_of(key)):
                self._forget(key, at)
        if at.timestamp:  # before anything was read, records may come again that only their states know
            limits = self.max_entities, self.max_entity_bytes
            for key in self.recency.excess(at.partition, *limits, self.sweep_size):
                self._forget(key, at)
        self.notes.entities(at.partition, self.recency.count(at.partition), self.recency.bytes(at.partition))
        return []

    def restored(self, entities: Iterable[tuple[int, str, bytes]]) -> None:
        """The state was read back: `entities` is all there is (partition, key, value), oldest first."""
        self.recency.clear()
        self.leaving.clear()
        for partition, key, value in entities:
            if not key.startswith(PAGE):
                self.recency.touch(partition, key, len(value))  # its pages count again with its next event
                if self.loops.lived(loop_of(key)):
                    self.leaving.add([(partition, key)])

    def _forget(self, key: str, at: Position) -> None:
        value = self.entities.get(key, at)
        if value is not None:
            for page in self._pages(key, Entity.load(value)):
                self.entities.delete(page, at)
            self.entities.delete(key, at)
            self.notes.forgotten(loop_of(key))
        self.recency.discard(at.partition, key)

    def _observe(self, event: EventReceived | ObservationReceived, at: Position) -> tuple[Entity, str] | None:
        """The entity after an observation, and its fingerprint; None where it was applied, or came before.

        Raises RecordRejected, and IdTaken where other data came under the same id.
        """
        key = event.key().decode()
        plan = self.loops.plan(event.loop, event.revision)
        if self.entities.seen(key, at):
            return None
        fields = records.observed(self.loops, event)
        entity = self._entity(key, at)
        printed = fingerprint(event.subject, fields, None if event.time == event.data.received else event.time)
        mark = bytes.fromhex(printed)[:MARK_BYTES]
        seen = self._seen(key, entity, event.id, mark, at)
        if seen == "same":
            self.notes.duplicate(event.loop)
            return None
        if seen == "other":
            self.notes.taken(event.loop)
            raise IdTaken(f"id: {event.id!r} is the id of another observation of {event.subject!r}; give each its own")
        if entity.page_is_full:
            self.entities.put(self._page(key, entity.pages), entity.ids, at)
            entity = entity.turn_page()
        changed = entity.observe(plan, event.id, fields, event.time, event.data.received, mark)
        value = changed.dump()
        if len(value) > self.max_state_bytes:
            raise StateTooLarge(
                f"the state of {key!r} would be {len(value):,} bytes, the limit is {self.max_state_bytes:,}; "
                "shorten the windows or the strings in them"
            )
        self.entities.put(key, value, at)
        self._touch(key, changed, value, at.partition)
        return changed, printed

    def _touch(self, key: str, entity: Entity, value: bytes, partition: int) -> None:
        pages = min(entity.pages, self._pages_kept)
        self.recency.touch(partition, key, len(value) + pages * (PAGE_IDS * MARK_BYTES + KEY_BYTES))

    def _entity(self, key: str, at: Position) -> Entity:
        """The entity in its loop's present life."""
        entity, life = Entity.load(self.entities.get(key, at)), self.loops.life(loop_of(key))
        if entity.life == life:
            return entity
        for page in self._pages(key, entity):
            self.entities.delete(page, at)
        return Entity(life=life)

    def _seen(self, key: str, entity: Entity, event_id: str, mark: bytes, at: Position) -> Seen:
        seen = seen_under(entity.ids, event_id, mark)
        if seen == "new" and entity.pages:
            pages = (self.entities.get(page, at) or b"" for page in self._pages(key, entity))
            return next((s for page in pages if (s := seen_under(page, event_id, mark)) != "new"), "new")
        return seen

    def _pages(self, key: str, entity: Entity) -> list[str]:
        return [self._page(key, n) for n in range(max(0, entity.pages - self._pages_kept), entity.pages)]

    def _page(self, key: str, number: int) -> str:
        """Where a full page of ids is put aside; written before the state that counts it."""
        return f"{PAGE}{number % self._pages_kept}/{key}"

    @property
    def _pages_kept(self) -> int:
        return max(1, self.ids_kept // PAGE_IDS)
