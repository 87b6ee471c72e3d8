"""What is stored of an entity: its ids, bounded, and a state that does not outgrow a record."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.feature.entity_harness import NO_KEYS, entity_handlers
from tests.feature.feature_events import event, loop_state, spec

from everloop_feature.domain.entity import NO_FINGERPRINT, PAGE_IDS, Entity, match_id
from everloop_feature.domain.loops import ActiveLoops
from everloop_feature.errors import StateTooLarge
from everloop_feature.handlers.entities import EntityHandlers
from everloop_features import compile_features
from everloop_schemas.envelope import Event
from everloop_schemas.feature import EntityState, FeaturesComputed, LabelJoined, LabelJoinedData
from everloop_shared.messaging.keyed.state import Change
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import Position

PLAN = compile_features(spec())


class Bus:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[Sequence[Event]] = []

    async def publish(self, events: Sequence[Event]) -> None:
        self.sent.append(events)


def handlers(store: KeyedStore | None = None, **limits: int) -> EntityHandlers:
    loops = ActiveLoops()
    loops.apply(loop_state())
    return entity_handlers(loops, store or KeyedStore("entities"), NO_KEYS, **limits)


@given(st.lists(st.text(min_size=1, max_size=8), max_size=30))
def test_an_entity_knows_the_ids_on_its_page(ids: list[str]) -> None:
    entity = Entity()
    for id in ids:
        entity = entity.observe(PLAN, id, {"price": 1.0}, event(0).time)

    assert all(match_id(entity.ids, id, b"ab") == "same" for id in ids)
    assert match_id(entity.ids, "an id of its own", NO_FINGERPRINT) == "new"
    assert Entity.load(entity.dump()) == entity


async def test_the_latest_ids_are_known_and_older_ones_are_new_again() -> None:
    entities = handlers(ids_per_entity=2 * PAGE_IDS)
    last = 4 * PAGE_IDS
    for n in range(last):
        await entities.on_event_received(event(n), Position("ingest.event_received.v1", 0, n))

    recent = await entities.on_event_received(event(last - 2 * PAGE_IDS), Position("ingest.event_received.v1", 0, last))
    ancient = await entities.on_event_received(event(0), Position("ingest.event_received.v1", 0, last + 1))

    assert recent == []
    assert ancient != []


async def test_a_repeat_within_a_crash_cut_batch_is_not_taken_for_a_duplicate() -> None:
    """Pages leave before the state that counts them, whatever else the batch holds."""
    store = KeyedStore("entities")
    written: list[bytes] = []

    async def changelog(changes: Sequence[Change]) -> dict[int, int]:
        written.extend(name for _, name, _ in changes)
        return {0: len(written) - 1}

    store.attach(Bus(), changelog=changelog)
    entities = handlers(store)
    async with store:
        for n in range(PAGE_IDS + 2):
            await entities.on_event_received(event(n), Position("ingest.event_received.v1", 0, n))

    assert written == [b"0|~0/shop/ada", b"0|shop/ada"]


async def test_a_replayed_record_changes_nothing_and_publishes_nothing() -> None:
    entities, at = handlers(), Position("ingest.event_received.v1", 0, 5)
    await entities.on_event_received(event(1), at)

    again = await entities.on_event_received(event(1), at)

    assert again == []


async def test_the_same_observation_gives_the_same_bytes() -> None:
    at = Position("ingest.event_received.v1", 0, 5)

    once, again = [await handlers().on_event_received(event(1), at) for _ in range(2)]

    assert [e.encode() for e in once] == [e.encode() for e in again]
    assert [type(e) for e in once] == [FeaturesComputed, EntityState]
    assert {e.causationid for e in once} == {"e1"}


async def test_only_the_last_state_of_a_batch_leaves_it() -> None:
    store = KeyedStore("entities")
    bus = Bus()
    store.attach(bus)
    entities = handlers(store)
    async with store as unit:
        for n in range(3):
            await unit.record(
                await entities.on_event_received(event(n), Position("ingest.event_received.v1", 0, n)), {}
            )

    [events] = bus.sent
    assert [e.data.applied for e in events if isinstance(e, EntityState)] == [3]
    assert sum(isinstance(e, FeaturesComputed) for e in events) == 3


class ThreeEntities:
    """Handlers that store three entities at most."""

    def __init__(self) -> None:
        self.store = KeyedStore("entities")
        self.entities = handlers(self.store, entities=3, ids_per_entity=PAGE_IDS)
        self.handled = 0

    async def observe(self, *entities: str) -> list[FeaturesComputed]:
        """One observation from each entity, one after the other."""
        vectors: list[FeaturesComputed] = []
        for entity in entities:
            at = Position("ingest.event_received.v1", 0, self.handled)
            async with self.store:
                published = await self.entities.on_event_received(
                    event(self.handled, price=float(self.handled), entity=entity), at
                )
            vectors += [e for e in published if isinstance(e, FeaturesComputed)]
            self.handled += 1
        return vectors

    async def sweep(self, time_ms: int = 1_000) -> list[str]:
        """The stored keys afterwards, least recently used first."""
        async with self.store:
            await self.entities.sweep(Position("", 0, -1, time_ms))
        keys = [key for _, key, _ in self.store.items()]
        return sorted(keys, key=lambda key: self.store.applied(key, Position("")))


@pytest.fixture
def three() -> ThreeEntities:
    three = ThreeEntities()
    three.store.attach(Bus())
    return three


@pytest.mark.promise(12)
async def test_beyond_the_limit_the_entities_used_longest_ago_are_evicted(three: ThreeEntities) -> None:
    await three.observe("ada", "bob", "cy", "ada", "dee")

    stored = await three.sweep()

    assert stored == ["shop/cy", "shop/ada", "shop/dee"]
    assert [v.data.features["mean_3"] for v in await three.observe("bob", "ada")] == [5.0, 3.0]


async def test_which_entity_was_used_last_is_known_after_a_restart(three: ThreeEntities) -> None:
    await three.observe("ada", "bob", "cy", "ada", "dee")
    three.store.index.reset()
    three.entities.restored()

    assert await three.sweep() == ["shop/cy", "shop/ada", "shop/dee"]


async def test_an_evicted_entity_takes_its_pages_of_ids_along(three: ThreeEntities) -> None:
    await three.observe(*["ada"] * (PAGE_IDS + 1), "bob", "cy", "dee")

    assert await three.sweep() == ["shop/bob", "shop/cy", "shop/dee"]


async def test_no_entity_is_evicted_before_anything_was_read(three: ThreeEntities) -> None:
    """What came after the last commit comes again, and the entity's own state says that it was applied."""
    await three.observe("ada", "bob", "cy", "dee")

    assert len(await three.sweep(time_ms=0)) == 4


async def test_a_state_that_fits_no_record_is_rejected_with_the_fix() -> None:
    entities = handlers(bytes_per_entity=50)

    with pytest.raises(StateTooLarge, match="shorten the windows"):
        await entities.on_event_received(event(1), Position("ingest.event_received.v1", 0, 5))


def with_label_feature() -> EntityHandlers:
    loops = ActiveLoops()
    loops.apply(loop_state(spec(features=[{"name": "last", "lag": "label"}])))
    return entity_handlers(loops, KeyedStore("entities"))


def joined(n: int, label: bool, correction: int = 0) -> LabelJoined:
    data = LabelJoinedData(
        prediction_id=f"e{n}", entity="ada", label=label, observed=event(n).time, correction=correction
    )
    return LabelJoined(id=f"j{n}-{correction}", time=event(n).time, subject="ada", loop="shop", revision=1, data=data)


async def test_a_label_of_an_entity_never_seen_is_kept_for_its_first_observation() -> None:
    entities = with_label_feature()
    await entities.on_label_joined(joined(0, True), Position("feature.label_joined.v1", 0, 0))

    [vector, *_] = await entities.on_event_received(event(1), Position("ingest.event_received.v1", 0, 0))

    assert vector.data.features == {"last": True}


async def test_labels_that_come_again_publish_no_state_again() -> None:
    """After a crash the same labels come once more, at other places of the log, when the windows have moved on."""
    entities, labels = with_label_feature(), [joined(1, True), joined(0, False), joined(1, False, correction=1)]
    first = [await entities.on_label_joined(e, Position("feature.label_joined.v1", 0, n)) for n, e in enumerate(labels)]
    await entities.on_event_received(event(2), Position("ingest.event_received.v1", 0, 0))

    again = [
        await entities.on_label_joined(e, Position("feature.label_joined.v1", 0, 3 + n)) for n, e in enumerate(labels)
    ]

    assert ([len(s) for s in first], again) == ([1, 0, 1], [[], [], []])
