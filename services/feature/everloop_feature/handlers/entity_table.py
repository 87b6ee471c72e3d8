"""The entities of the partitions in their keyed state, within limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from everloop_feature.domain.entity import FINGERPRINT_BYTES, PAGE_IDS, Entity, EntityUse, IdMatch, match_id
from everloop_feature.domain.loops import ActiveLoops, loop_of
from everloop_feature.errors import StateTooLarge
from everloop_feature.handlers.cleanup import Cleanup
from everloop_feature.ports import KeyedState, Metrics
from everloop_shared.messaging.keyed.index import Entry, IndexRule
from everloop_shared.messaging.routes import Position

PAGE_PREFIX = "~"
"""Keys of pages of ids begin with it; no loop's name does."""
ENTITIES = "entities"
"""The table of the index that has the entities, in the order in which they were used."""
KEY_BYTES = 100
"""What a key takes on disk beside its value, here and in the index."""
COMPARED = 256
"""At least so many of the entities used longest ago are compared by their last records, before one is evicted."""


@dataclass(frozen=True)
class EntityLimits:
    """How much is stored: ids per entity, bytes per entity, entities and their bytes per partition."""

    ids_per_entity: int = 20_000
    bytes_per_entity: int = 900_000
    entities: int = 5_000_000
    bytes: int = 5_000_000_000


DEFAULT_LIMITS = EntityLimits()


def entity_rule(ids_per_entity: int) -> IndexRule:
    """Where entities stand in the index: by their last use, all loops in one group."""

    def entries(key: str, value: bytes) -> Sequence[Entry]:
        if key.startswith(PAGE_PREFIX):
            return ()
        entity = EntityUse.load(value)
        pages = min(entity.pages, max(1, ids_per_entity // PAGE_IDS))
        size = len(value) + KEY_BYTES + pages * (PAGE_IDS * FINGERPRINT_BYTES + KEY_BYTES)
        return [Entry(ENTITIES, "", entity.used, size)]

    return entries


@dataclass
class EntityTable:
    """Loads and saves entities. A full page of ids is stored under a key of its own, before the entity that counts it.

    Beyond the limits the entities that were used longest ago are evicted: their next observations find them new.
    """

    state: KeyedState
    loops: ActiveLoops
    metrics: Metrics
    limits: EntityLimits = DEFAULT_LIMITS
    cleanup: Cleanup = field(init=False)

    def __post_init__(self) -> None:
        self.cleanup = Cleanup(self.state, self.loops.may_have_remains)

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
        entity = entity.use(at.timestamp // 1000)
        value = entity.dump()
        if len(value) > self.limits.bytes_per_entity:
            raise StateTooLarge(
                f"the state of {key!r} would be {len(value):,} bytes, the limit is {self.limits.bytes_per_entity:,}; "
                "shorten the windows or the strings in them"
            )
        self.state.put(key, value, at)

    def save_labelled(self, key: str, entity: Entity, at: Position) -> None:
        """Save the entity after a label, which is too small for a check of the limit."""
        self.state.put(key, entity.use(at.timestamp // 1000).dump(), at)

    def has_other_than(self, key: str, at: Position, key_id: str) -> bool:
        """Whether anything is stored of an entity that is not sealed with this key."""
        value = self.state.get(key, at)
        return value is not None and not Entity.load(value).is_sealed_with(key_id)

    def erase(self, key: str, at: Position, life: int) -> Entity | None:
        """Delete an entity with its pages; what it was in this lifetime of its loop, None where nothing was stored.

        The key reflects the record at this position then, whether anything was stored or not.
        """
        value = self.state.get(key, at)
        entity = None if value is None else Entity.load(value)
        self._drop(key, entity, at)
        return entity if entity and entity.life == life else None

    def delete_ended(self, at: Position, most: int) -> None:
        """Delete entities of lifetimes that have ended, `most` at a time."""
        for key in self.cleanup.take(at.partition, most):
            value = self.state.get(key, at)
            if value is not None and Entity.load(value).life != self.loops.life(loop_of(key)):
                self._delete(key, at)

    def evict(self, at: Position, most: int) -> None:
        """Delete the entities beyond the limits that were used longest ago, `most` at a time."""
        total = self.state.index.total(at.partition, ENTITIES)
        over, room = total.keys - self.limits.entities, total.size - self.limits.bytes
        if over <= 0 and room <= 0:
            return
        average = max(1, total.size // max(1, total.keys))
        wanted = min(most, max(over, room // average + 1))
        for key in self._used_longest_ago(at, max(COMPARED, wanted)):
            left = self.state.index.total(at.partition, ENTITIES)
            if left.keys <= self.limits.entities and left.size <= self.limits.bytes:
                break
            self._delete(key, at)

    def _used_longest_ago(self, at: Position, most: int) -> list[str]:
        keys = self.state.index.keys(at.partition, ENTITIES, "", most)
        return sorted(keys, key=lambda key: (Entity.load(self.state.get(key, at)).used, self.state.applied(key, at)))

    def report_size(self, partition: int) -> None:
        """Update the gauges of a partition."""
        self.metrics.set_entities(partition, *self.state.index.total(partition, ENTITIES))

    def _delete(self, key: str, at: Position) -> None:
        value = self.state.get(key, at)
        if value is not None:
            self._drop(key, Entity.load(value), at)
            self.metrics.count_evicted_entity(loop_of(key))

    def _drop(self, key: str, entity: Entity | None, at: Position) -> None:
        for page in self._pages(key, entity) if entity else ():
            self.state.delete(page, at)
        self.state.delete(key, at)

    def _pages(self, key: str, entity: Entity) -> list[str]:
        return [self._page(key, n) for n in range(max(0, entity.pages - self._pages_kept), entity.pages)]

    def _page(self, key: str, number: int) -> str:
        """The key of a full page of ids; the oldest page's is used again."""
        return f"{PAGE_PREFIX}{number % self._pages_kept}/{key}"

    @property
    def _pages_kept(self) -> int:
        return max(1, self.limits.ids_per_entity // PAGE_IDS)
