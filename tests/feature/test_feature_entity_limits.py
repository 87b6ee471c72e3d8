"""Entities are limited by their bytes, too: few with large windows reach the limit before many with small ones."""

from __future__ import annotations

from random import Random

from tests.feature.feature_events import loop_state, spec

from everloop_feature.domain.entity import Entity
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.handlers.entity_table import ENTITIES, KEY_BYTES, EntityLimits, EntityTable, entity_rule
from everloop_feature.metrics import PrometheusMetrics
from everloop_shared.messaging.keyed.index import Total
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import Position


class Entities:
    """A table within limits, whose entities have windows of any size."""

    def __init__(self, entities: int, size: int) -> None:
        loops = ActiveLoops()
        loops.apply(loop_state(spec()))
        self.store = KeyedStore("entities", rule=entity_rule(256))
        self.table = EntityTable(self.store, loops, PrometheusMetrics(), EntityLimits(entities=entities, bytes=size))
        self.used = 0

    async def use(self, key: str, size: int) -> None:
        """One record of the entity, a second after the last, after which it takes `size` bytes."""
        self.used += 1
        empty = len(Entity(life=1, state={"w": ""}, used=self.used).dump()) + KEY_BYTES
        entity = Entity(life=1, state={"w": "x" * max(0, size - empty)})
        async with self.store:
            self.table.save_observed(key, entity, Position("t", 0, self.used, 1000 * self.used))

    async def sweep(self, most: int = 500) -> Total:
        """Evict; what is left."""
        async with self.store:
            self.table.evict(Position("", 0, -1, 1), most)
        return self.store.index.total(0, ENTITIES)

    def stored(self) -> list[str]:
        """The keys."""
        return [key for _, key, _ in self.store.items()]


async def test_the_bytes_of_a_partition_stay_within_the_limit_whatever_comes() -> None:
    entities, random, limit = Entities(100, 1_000_000), Random(1), 1_000_000

    for n in range(600):
        await entities.use(f"shop/{random.randrange(300)}", random.randrange(50_000))
        total = await entities.sweep()
        assert total.size <= limit, n
        assert total.keys <= 100

    none = Entities(0, 0)
    none.store.attach(none.store, entities.store.storage)  # type: ignore[arg-type]
    assert await none.sweep() == (0, 0)


async def test_no_more_than_necessary_are_evicted_and_the_oldest_first() -> None:
    async def left(entities: int, size: int) -> list[str]:
        table = Entities(entities, size)
        for n in (0, 1, 2, 3, 4, 0):
            await table.use(f"shop/{n}", 10_000)
        await table.sweep()
        return table.stored()

    assert await left(10, 35_000) == ["shop/0", "shop/3", "shop/4"]
    assert await left(2, 10**9) == ["shop/0", "shop/4"]
    assert await left(5, 50_100) == [f"shop/{n}" for n in range(5)]
