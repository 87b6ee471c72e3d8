"""A loop that is deleted leaves nothing behind in feature, and one applied again begins anew."""

from __future__ import annotations

from typing import Any

from tests.feature.feature_world import START, event, label, loop_state, prediction

from everloop_feature.deadlines import Deadlines
from everloop_feature.domain import Entity
from everloop_feature.handlers import EntityHandlers
from everloop_feature.joining import JoinHandlers
from everloop_feature.loops import Loops
from everloop_feature.metrics import PrometheusNotes
from everloop_learning.deleted_loops import skip_deleted_loops
from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed, OutcomeObserved
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Handler, Position, Route


class Room:
    """Both groups of handlers over plain stores, behind the guard of deleted loops; one partition."""

    def __init__(self) -> None:
        self.loops, notes = Loops(), PrometheusNotes()
        self.entities, self.joins = KeyedStore("entities"), KeyedStore("joins")
        for store in (self.entities, self.joins):
            store.attach(MemoryBroker(1).engine("feature", []), store.data, None)
        self.windows = EntityHandlers(self.loops, self.entities, notes)
        self.joining = JoinHandlers(self.loops, self.joins, notes, Deadlines(100, 10**6), Deadlines(100, 10**6))
        self.offset = 0

    def hear(self, deleted: bool = False, revision: int = 1, sequence: int = 1, life: int = 1) -> None:
        """A state of the loop."""
        state = loop_state(revision=revision, sequence=sequence)
        data = state.data.model_copy(update={"deleted": deleted, "life": life})
        self.loops.apply(LoopState.model_validate({**state.model_dump(), "data": data.model_dump(by_alias=True)}))

    async def take(self, seen: Event, revision: int = 1) -> list[Event]:
        """An event, as the engine hands it over."""
        of: dict[str, tuple[Handler, KeyedStore]] = {
            "event_received": (self.windows.on_event_received, self.entities),
            "prediction_made": (self.joining.on_prediction_made, self.joins),
            "label_received": (self.joining.on_label_received, self.joins),
        }
        handle, store = of[seen.type.split(".")[1]]
        [route] = skip_deleted_loops("feature", self.loops.known, [Route(seen.topic, handle)])
        self.offset += 1
        async with store:
            at = Position(seen.topic.name, 0, self.offset, int(START.timestamp() * 1000))
            caused = list(await route.handle(seen.model_copy(update={"revision": revision}), at))
        return caused

    async def sweep(self) -> None:
        """What is due goes."""
        now = Position("", 0, -1, int(START.timestamp() * 1000))
        for group, store in ((self.windows, self.entities), (self.joining, self.joins)):
            async with store:
                await group.sweep(now)

    def kept(self) -> list[str]:
        """Every key in memory."""
        return sorted(key for store in (self.entities, self.joins) for _, key, _ in store.items())


async def lived() -> Room:
    """A loop with two entities, a prediction that waits for its label, and a label that waits for its prediction."""
    room = Room()
    room.hear()
    for seen in (event(1), event(2, entity="bob"), prediction(1), label(9)):
        await room.take(seen)
    assert room.kept() == ["shop/ada", "shop/bob", "shop/e1", "shop/e9"]
    return room


async def test_a_deleted_loop_leaves_no_entity_and_no_join_behind() -> None:
    room = await lived()

    room.hear(deleted=True, sequence=2)
    late: list[Any] = [await room.take(seen) for seen in (event(3), prediction(3), label(1))]
    await room.sweep()

    assert late == [[], [], []]
    assert room.kept() == []


async def test_a_restart_after_the_deletion_forgets_the_rest() -> None:
    room = await lived()
    room.windows.recency.clear()
    room.joining.predictions.clear()

    room.hear(deleted=True, sequence=2)
    room.windows.restored(room.entities.items())
    room.joining.restored(room.joins.items())
    await room.sweep()

    assert room.kept() == []


async def test_in_a_new_life_the_same_entity_and_the_same_ids_are_new() -> None:
    room = await lived()
    room.hear(deleted=True, sequence=2)
    room.hear(revision=2, sequence=3, life=2)

    old = await room.take(event(4, 100.0))
    [computed, _] = await room.take(event(1, 5.0), revision=2)
    predicted = await room.take(prediction(1), revision=2)
    [outcome] = [e for e in await room.take(label(1), revision=2) if isinstance(e, OutcomeObserved)]

    assert old == []
    assert isinstance(computed, FeaturesComputed)
    assert computed.data.features["mean_3"] == 5.0, "what was before is not in its windows"
    assert predicted == []
    assert outcome.revision == 2
    await room.sweep()
    assert room.kept() == ["shop/ada", "shop/e1"]
    entity = Entity.load(room.entities.find("shop/ada", 0))
    assert (entity.applied, entity.life) == (1, 2)


def test_the_state_of_the_release_before_is_an_entity_of_the_first_life() -> None:
    stored = b'[3,{},{"price":1.0},"AAAAAAAAAAA=",0]'

    assert Entity.load(stored).life == 1
