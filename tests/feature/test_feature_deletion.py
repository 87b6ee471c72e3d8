"""A loop that is deleted leaves no state behind in feature, and one applied again starts without any."""

from __future__ import annotations

from typing import Any

from tests.feature.entity_harness import NO_KEYS, entity_handlers, erasure_handlers
from tests.feature.feature_events import START, event, label, loop_state, prediction

from everloop_feature.adapters import VaultKeys
from everloop_feature.domain.entity import Entity
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.handlers.join_table import JoinLimits, JoinTable, join_entries
from everloop_feature.handlers.joins import JoinHandlers
from everloop_feature.handlers.loops import LoopHandlers
from everloop_feature.metrics import PrometheusMetrics
from everloop_learning.deleted_loops import skip_deleted_loops
from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed, OutcomeObserved
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.keyed.index import Total
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Handler, Position, Route


class BothGroups:
    """Both groups of handlers over stores in memory, behind the guard of deleted loops; one partition."""

    def __init__(self) -> None:
        self.loops, metrics = ActiveLoops(), PrometheusMetrics()
        self.entity_store, self.join_store = KeyedStore("entities"), KeyedStore("joins", rule=join_entries)
        for store in (self.entity_store, self.join_store):
            store.attach(MemoryBroker(1).engine("feature"))
        self.entities = entity_handlers(self.loops, self.entity_store)
        table = JoinTable(self.join_store, self.loops, metrics, JoinLimits(Total(100, 10**6), Total(100, 10**6)))
        self.joins = JoinHandlers(self.loops, table, VaultKeys(NO_KEYS), metrics)
        self.loop_handlers = LoopHandlers(self.loops, self.entities, self.joins, erasure_handlers(self.entities))
        self.offset = 0

    async def apply(self, deleted: bool = False, revision: int = 1, sequence: int = 1, life: int = 1) -> None:
        """Handle a state of the loop."""
        state = loop_state(revision=revision, sequence=sequence)
        data = state.data.model_copy(update={"deleted": deleted, "life": life})
        state = LoopState.model_validate({**state.model_dump(), "data": data.model_dump(by_alias=True)})
        await self.loop_handlers.on_loop_state(state, Position(LoopState.topic.name))

    async def handle(self, consumed: Event, revision: int = 1) -> list[Event]:
        """Handle an event as the engine does."""
        handlers: dict[str, tuple[Handler, KeyedStore]] = {
            "event_received": (self.entities.on_event_received, self.entity_store),
            "prediction_made": (self.joins.on_prediction_made, self.join_store),
            "label_received": (self.joins.on_label_received, self.join_store),
        }
        handle, store = handlers[consumed.type.split(".")[1]]
        [route] = skip_deleted_loops("feature", self.loops.known, [Route(consumed.topic, handle)])
        self.offset += 1
        async with store:
            at = Position(consumed.topic.name, 0, self.offset, int(START.timestamp() * 1000))
            published = list(await route.handle(consumed.copy_with(revision=revision), at))
        return published

    async def sweep(self) -> None:
        """Sweep both groups."""
        now = Position("", 0, -1, int(START.timestamp() * 1000))
        async with self.entity_store:
            await self.entities.sweep(now)
        async with self.join_store:
            await self.joins.sweep(now)

    def stored(self) -> list[str]:
        """Every key in the stores."""
        return sorted(key for store in (self.entity_store, self.join_store) for _, key, _ in store.items())


async def with_state() -> BothGroups:
    """A loop with two entities, a prediction that waits for its label, and a label that waits for its prediction."""
    feature = BothGroups()
    await feature.apply()
    for consumed in (event(1), event(2, entity="bob"), prediction(1), label(9)):
        await feature.handle(consumed)
    assert feature.stored() == ["shop/ada", "shop/bob", "shop/e1", "shop/e9"]
    return feature


async def test_a_deleted_loop_leaves_no_entity_and_no_join_behind() -> None:
    feature = await with_state()

    await feature.apply(deleted=True, sequence=2)
    late: list[Any] = [await feature.handle(consumed) for consumed in (event(3), prediction(3), label(1))]
    await feature.sweep()

    assert late == [[], [], []]
    assert feature.stored() == []


async def test_a_restart_after_the_deletion_deletes_the_rest() -> None:
    feature = await with_state()
    feature.entities.restored()
    feature.joins.restored()

    await feature.apply(deleted=True, sequence=2)
    await feature.sweep()

    assert feature.stored() == []


async def test_in_a_new_lifetime_the_same_entity_and_the_same_ids_are_new() -> None:
    feature = await with_state()
    await feature.apply(deleted=True, sequence=2)
    await feature.apply(revision=2, sequence=3, life=2)

    old = await feature.handle(event(4, 100.0))
    [computed, _] = await feature.handle(event(1, 5.0), revision=2)
    predicted = await feature.handle(prediction(1), revision=2)
    [outcome] = [e for e in await feature.handle(label(1), revision=2) if isinstance(e, OutcomeObserved)]

    assert old == []
    assert isinstance(computed, FeaturesComputed)
    assert computed.data.features["mean_3"] == 5.0, "its windows have nothing of the earlier lifetime"
    assert predicted == []
    assert outcome.revision == 2
    await feature.sweep()
    assert feature.stored() == ["shop/ada", "shop/e1"]
    entity = Entity.load(feature.entity_store.find("shop/ada", 0))
    assert (entity.applied, entity.life) == (1, 2)


def test_the_state_of_earlier_releases_is_an_entity_of_the_first_lifetime() -> None:
    stored = b'[3,{},{"price":1.0},"AAAAAAAAAAA=",0]'

    assert Entity.load(stored).life == 1
