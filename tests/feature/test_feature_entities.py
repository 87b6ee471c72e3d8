"""What an entity remembers: its ids, bounded, and a state that does not outgrow a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.feature.feature_world import event, loop_state, spec

from everloop_feature.domain import PAGE_IDS, UNMARKED, Entity, seen_under
from everloop_feature.errors import StateTooLarge
from everloop_feature.handlers import EntityHandlers
from everloop_feature.loops import Loops
from everloop_feature.metrics import PrometheusNotes
from everloop_features import compile_features
from everloop_schemas.envelope import Event
from everloop_schemas.feature import EntityState, FeaturesComputed, LabelJoined, LabelJoinedData
from everloop_shared.messaging.keyed.store import Change, KeyedStore
from everloop_shared.messaging.routes import Position

PLAN = compile_features(spec())


class Bus:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[Sequence[Event]] = []

    async def publish(self, events: Sequence[Event]) -> None:
        self.sent.append(events)


def handlers(store: KeyedStore | None = None, **changes: Any) -> EntityHandlers:
    loops = Loops()
    loops.apply(loop_state())
    return EntityHandlers(loops, store or KeyedStore("entities"), PrometheusNotes(), **changes)


@given(st.lists(st.text(min_size=1, max_size=8), max_size=30))
def test_an_entity_knows_the_ids_on_its_page(ids: list[str]) -> None:
    entity = Entity()
    for id in ids:
        entity = entity.observe(PLAN, id, {"price": 1.0}, event(0).time)

    assert all(seen_under(entity.ids, id, b"ab") == "same" for id in ids)
    assert seen_under(entity.ids, "an id of its own", UNMARKED) == "new"
    assert Entity.load(entity.dump()) == entity


async def test_ids_are_remembered_for_so_long_and_no_longer() -> None:
    desk = handlers(ids_kept=2 * PAGE_IDS)
    last = 4 * PAGE_IDS
    for n in range(last):
        await desk.on_event_received(event(n), Position("ingest.event_received.v1", 0, n))

    recent = await desk.on_event_received(event(last - 2 * PAGE_IDS), Position("ingest.event_received.v1", 0, last))
    ancient = await desk.on_event_received(event(0), Position("ingest.event_received.v1", 0, last + 1))

    assert recent == []
    assert ancient != []


async def test_a_repeat_within_a_crash_cut_batch_is_not_taken_for_a_duplicate() -> None:
    """Pages leave before the state that counts them, whatever else the batch holds."""
    store = KeyedStore("entities")
    written: list[bytes] = []

    async def changelog(changes: Sequence[Change]) -> None:
        written.extend(name for _, name, _ in changes)

    store.attach(Bus(), {}, changelog)
    desk = handlers(store)
    async with store:
        for n in range(PAGE_IDS + 2):
            await desk.on_event_received(event(n), Position("ingest.event_received.v1", 0, n))

    assert written == [b"0|~0/shop/ada", b"0|shop/ada"]


async def test_a_replayed_record_changes_nothing_and_says_nothing() -> None:
    desk, at = handlers(), Position("ingest.event_received.v1", 0, 5)
    await desk.on_event_received(event(1), at)

    again = await desk.on_event_received(event(1), at)

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
    store.attach(bus, {}, None)
    desk = handlers(store)
    async with store as unit:
        for n in range(3):
            await unit.record(await desk.on_event_received(event(n), Position("ingest.event_received.v1", 0, n)), {})

    [events] = bus.sent
    assert [e.data.applied for e in events if isinstance(e, EntityState)] == [3]
    assert sum(isinstance(e, FeaturesComputed) for e in events) == 3


class Crowd:
    """Handlers that keep three entities, each of which has been heard of once unless said otherwise."""

    def __init__(self) -> None:
        self.store = KeyedStore("entities")
        self.desk = handlers(self.store, max_entities=3, ids_kept=PAGE_IDS)
        self.heard = 0

    async def hear(self, *entities: str) -> list[FeaturesComputed]:
        """One observation from each entity, one after the other."""
        vectors: list[FeaturesComputed] = []
        for entity in entities:
            at = Position("ingest.event_received.v1", 0, self.heard)
            async with self.store:
                said = await self.desk.on_event_received(event(self.heard, price=float(self.heard), entity=entity), at)
            vectors += [e for e in said if isinstance(e, FeaturesComputed)]
            self.heard += 1
        return vectors

    async def sweep(self, time_ms: int = 1_000) -> list[str]:
        """What is kept afterwards, in the order in which it was heard of."""
        async with self.store:
            await self.desk.sweep(Position("", 0, -1, time_ms))
        return [key for _, key, _ in self.store.items()]


@pytest.fixture
def crowd() -> Crowd:
    crowd = Crowd()
    crowd.store.attach(Bus(), {}, None)
    return crowd


@pytest.mark.promise(12)
async def test_entities_beyond_the_limit_part_with_those_heard_of_longest_ago(crowd: Crowd) -> None:
    await crowd.hear("ada", "bob", "cy", "ada", "dee")

    kept = await crowd.sweep()

    assert kept == ["shop/cy", "shop/ada", "shop/dee"]
    assert [v.data.features["mean_3"] for v in await crowd.hear("bob", "ada")] == [5.0, 3.0]


async def test_what_was_heard_of_last_is_known_after_a_restart(crowd: Crowd) -> None:
    await crowd.hear("ada", "bob", "cy", "ada", "dee")
    crowd.desk.restored(crowd.store.items())

    assert await crowd.sweep() == ["shop/cy", "shop/ada", "shop/dee"]


async def test_with_an_entity_go_its_pages_of_ids(crowd: Crowd) -> None:
    await crowd.hear(*["ada"] * (PAGE_IDS + 1), "bob", "cy", "dee")

    assert await crowd.sweep() == ["shop/bob", "shop/cy", "shop/dee"]


async def test_nobody_is_forgotten_before_anything_was_read(crowd: Crowd) -> None:
    """What came after the last commit comes again, and the entity's own state says that it was applied."""
    await crowd.hear("ada", "bob", "cy", "dee")

    assert len(await crowd.sweep(time_ms=0)) == 4


async def test_a_state_that_fits_no_record_is_refused_with_the_fix() -> None:
    desk = handlers(max_state_bytes=50)

    with pytest.raises(StateTooLarge, match="shorten the windows"):
        await desk.on_event_received(event(1), Position("ingest.event_received.v1", 0, 5))


def labels_first() -> EntityHandlers:
    loops = Loops()
    loops.apply(loop_state(spec(features=[{"name": "last", "lag": "label"}])))
    return EntityHandlers(loops, KeyedStore("entities"), PrometheusNotes())


def joined(n: int, label: bool, correction: int = 0) -> LabelJoined:
    data = LabelJoinedData(
        prediction_id=f"e{n}", entity="ada", label=label, observed=event(n).time, correction=correction
    )
    return LabelJoined(id=f"j{n}-{correction}", time=event(n).time, subject="ada", loop="shop", revision=1, data=data)


async def test_a_label_of_an_entity_never_seen_is_kept_for_its_first_observation() -> None:
    desk = labels_first()
    await desk.on_label_joined(joined(0, True), Position("feature.label_joined.v1", 0, 0))

    [vector, *_] = await desk.on_event_received(event(1), Position("ingest.event_received.v1", 0, 0))

    assert vector.data.features == {"last": True}


async def test_labels_said_again_say_no_state_again() -> None:
    """After a crash the same labels come once more, at other places of the log, when the windows have moved on."""
    desk, words = labels_first(), [joined(1, True), joined(0, False), joined(1, False, correction=1)]
    said = [await desk.on_label_joined(w, Position("feature.label_joined.v1", 0, n)) for n, w in enumerate(words)]
    await desk.on_event_received(event(2), Position("ingest.event_received.v1", 0, 0))

    again = [await desk.on_label_joined(w, Position("feature.label_joined.v1", 0, 3 + n)) for n, w in enumerate(words)]

    assert ([len(s) for s in said], again) == ([1, 0, 1], [[], [], []])
