"""The entities of the partitions in their keyed state, within limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from everloop_feature.domain.cleanup import CleanupQueue
from everloop_feature.domain.entity import FINGERPRINT_BYTES, PAGE_IDS, Entity, IdMatch, match_id
from everloop_feature.domain.entity_lru import KEY_BYTES, EntityLru
from everloop_feature.domain.loops import ActiveLoops, loop_of
from everloop_feature.errors import StateTooLarge
from everloop_feature.ports import KeyedState, Metrics
from everloop_shared.messaging.routes import Position

PAGE_PREFIX = "~"
"""Keys of pages of ids begin with it; no loop's name does."""


@dataclass(frozen=True)
class EntityLimits:
    """How much is stored: ids per entity, bytes per entity, entities and their bytes per partition."""

    ids_per_entity: int = 20_000
    bytes_per_entity: int = 900_000
    entities: int = 100_000
    bytes: int = 200_000_000


DEFAULT_LIMITS = EntityLimits()


@dataclass
class EntityTable:
    """Loads and saves entities. A full page of ids is stored under a key of its own, before the entity that counts it.

    Beyond the limits the entities that were used longest ago are evicted: their next observations find them new.
    """

    state: KeyedState
    loops: ActiveLoops
    metrics: Metrics
    limits: EntityLimits = DEFAULT_LIMITS
    lru: EntityLru = field(default_factory=EntityLru, init=False)
    cleanup: CleanupQueue = field(default_factory=CleanupQueue, init=False)

    def is_applied(self, key: str, at: Position) -> bool:
        """Whether the entity reflects the record at this position."""
        return self.state.has_applied(key, at)

    def load(self, key: str, at: Position, life: int) -> Entity:
        """The entity in this lifetime of its loop; one of an earlier lifetime is new, and its pages are deleted."""
        entity = Entity.load(self.state.get(key, at))
        if entity.life == life:
            return entity
        for page in self._pages(key, entity):
            self.state.delete(page, at)
        return Entity(life=life)

    def match_id(self, key: str, entity: Entity, event_id: str, fingerprint: bytes, at: Position) -> IdMatch:
        """Whether an id came before, on any of the entity's pages, and with the same fingerprint."""
        match = match_id(entity.ids, event_id, fingerprint)
        if match == "new" and entity.pages:
            pages = (self.state.get(page, at) or b"" for page in self._pages(key, entity))
            return next((m for page in pages if (m := match_id(page, event_id, fingerprint)) != "new"), "new")
        return match

    def make_page_room(self, key: str, entity: Entity, at: Position) -> Entity:
        """The entity with room for one more id on its page: a full page is stored apart."""
        if not entity.page_is_full:
            return entity
        self.state.put(self._page(key, entity.pages), entity.ids, at)
        return entity.start_page()

    def save_observed(self, key: str, entity: Entity, at: Position) -> None:
        """Save the entity after an observation; raises StateTooLarge."""
        value = entity.dump()
        if len(value) > self.limits.bytes_per_entity:
            raise StateTooLarge(
                f"the state of {key!r} would be {len(value):,} bytes, the limit is {self.limits.bytes_per_entity:,}; "
                "shorten the windows or the strings in them"
            )
        self._put(key, entity, value, at)

    def save_labelled(self, key: str, entity: Entity, at: Position) -> None:
        """Save the entity after a label, which is too small for a check of the limit."""
        self._put(key, entity, entity.dump(), at)

    def schedule_cleanup(self, loop: str) -> None:
        """A lifetime of the loop has ended: the next sweeps delete its entities."""
        self.cleanup.add(self.lru.keys_of(loop))

    def delete_ended(self, at: Position, most: int) -> None:
        """Delete entities of lifetimes that have ended, `most` at a time."""
        for key in self.cleanup.take(at.partition, most):
            value = self.state.get(key, at)
            if value is not None and Entity.load(value).life != self.loops.life(loop_of(key)):
                self._delete(key, at)

    def evict(self, at: Position, most: int) -> None:
        """Delete the entities beyond the limits that were used longest ago, `most` at a time."""
        for key in self.lru.excess(at.partition, self.limits.entities, self.limits.bytes, most):
            self._delete(key, at)

    def report_size(self, partition: int) -> None:
        """Update the gauges of a partition."""
        self.metrics.set_entities(partition, self.lru.count(partition), self.lru.bytes(partition))

    def restore(self, entities: Iterable[tuple[int, str, bytes]]) -> None:
        """Rebuild what is in memory from all that is stored: (partition, key, value), oldest first."""
        self.lru.clear()
        self.cleanup.clear()
        for partition, key, value in entities:
            if not key.startswith(PAGE_PREFIX):
                self.lru.touch(partition, key, len(value))  # its pages count again with its next event
                if self.loops.may_have_remains(loop_of(key)):
                    self.cleanup.add([(partition, key)])

    def _put(self, key: str, entity: Entity, value: bytes, at: Position) -> None:
        self.state.put(key, value, at)
        pages = min(entity.pages, self._pages_kept)
        self.lru.touch(at.partition, key, len(value) + pages * (PAGE_IDS * FINGERPRINT_BYTES + KEY_BYTES))

    def _delete(self, key: str, at: Position) -> None:
        value = self.state.get(key, at)
        if value is not None:
            for page in self._pages(key, Entity.load(value)):
                self.state.delete(page, at)
            self.state.delete(key, at)
            self.metrics.count_evicted_entity(loop_of(key))
        self.lru.discard(at.partition, key)

    def _pages(self, key: str, entity: Entity) -> list[str]:
        return [self._page(key, n) for n in range(max(0, entity.pages - self._pages_kept), entity.pages)]

    def _page(self, key: str, number: int) -> str:
        """The key of a full page of ids; the oldest page's is used again."""
        return f"{PAGE_PREFIX}{number % self._pages_kept}/{key}"

    @property
    def _pages_kept(self) -> int:
        return max(1, self.limits.ids_per_entity // PAGE_IDS)
