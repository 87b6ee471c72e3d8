"""What a keyed store promises a handler and a changelog, without any engine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop_schemas.envelope import Event
from everloop_schemas.feature import EntityState, EntityStateData
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.keyed.expiry import StreamTime
from everloop_shared.messaging.keyed.log_copy import ORDER
from everloop_shared.messaging.keyed.state import Change, storage_key
from everloop_shared.messaging.keyed.storage import MemoryStorage
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import Position


def at(offset: int, topic: str = "t", partition: int = 0) -> Position:
    return Position(topic, partition, offset, offset)


class Bus:
    """Takes events, or fails."""

    def __init__(self) -> None:
        self.taken: list[Event] = []
        self.away = False

    async def publish(self, events: Sequence[Event]) -> None:
        if self.away:
            raise Unavailable("away")
        self.taken += events


class Log:
    """A changelog that can be cut off after some records, as a crash would."""

    def __init__(self) -> None:
        self.records: list[Change] = []

    async def __call__(self, changes: Sequence[Change]) -> dict[int, int]:
        self.records += changes
        return {partition: len(self.records) - 1 for partition, _, _ in changes}

    def state(self, length: int) -> dict[bytes, bytes]:
        data: dict[bytes, bytes] = {}
        for _, name, value in self.records[:length]:
            if value is None:
                data.pop(name, None)
            else:
                data[name] = value
        return data


def state_of(entity: str, n: int) -> EntityState:
    data = EntityStateData(entity=entity, applied=n, state={})
    return EntityState(id=f"{entity}{n}", time=datetime(2026, 1, 1, tzinfo=UTC), subject=entity, loop="l", data=data)


async def test_a_unit_that_fails_leaves_nothing() -> None:
    store, bus = KeyedStore("s"), Bus()
    store.attach(bus)
    bus.away = True

    async def unit() -> None:
        async with store:
            store.put("k", b"1", at(0))
            await store.record([state_of("a", 1)], {("t", 0): 1})

    with pytest.raises(Unavailable):
        await unit()

    assert store.get("k", at(1)) is None
    assert not store.has_applied("k", at(0))


async def test_applied_offsets_are_kept_by_topic() -> None:
    store = KeyedStore("s")

    async with store:
        store.put("k", b"1", at(5))
        store.put("k", b"2", at(3, topic="u"))

    assert [store.has_applied("k", at(n)) for n in (5, 6)] == [True, False]
    assert [store.has_applied("k", at(n, topic="u")) for n in (3, 4)] == [True, False]
    assert not store.has_applied("other", at(5))


async def test_the_records_of_a_deleted_key_stay_applied() -> None:
    store = KeyedStore("s")
    async with store:
        store.put("k", b"1", at(5))
        await store.record([], {("t", 0): 6})

    async with store:
        store.delete("k", at(-1, topic=""))

    assert store.get("k", at(6)) is None
    assert store.has_applied("k", at(5))
    assert not store.has_applied("k", at(6))
    assert list(store.items()) == []


async def test_of_a_compacted_topic_only_the_last_event_per_key_of_a_batch_is_published() -> None:
    store, bus = KeyedStore("s"), Bus()
    store.attach(bus)

    async with store:
        await store.record([state_of("a", 1), state_of("b", 1), state_of("a", 2)], {})

    assert [e.id for e in bus.taken] == ["b1", "a2"]


async def test_the_order_of_topics_is_durable_before_the_outputs() -> None:
    store, log = KeyedStore("s", ordered=True), Log()

    class Looking(Bus):
        async def publish(self, events: Sequence[Event]) -> None:
            assert [name for _, name, _ in log.records] == [storage_key(0, ORDER)]
            assert list(store.items()) == []

    store.attach(Looking(), changelog=log)

    async with store:
        await store.record([state_of("a", 1)], {("u", 0): 4, ("t", 0): 9})

    again = restored(log)
    assert again.batch_order.next_topic(0, lambda topic: 0) == ("u", 3)
    assert again.batch_order.next_topic(0, {"u": 4, "t": 0}.__getitem__) == ("t", 8)
    assert again.batch_order.next_topic(0, {"u": 4, "t": 9}.__getitem__) is None


def restored(log: Log) -> KeyedStore:
    """A store of a session after."""
    store = KeyedStore("s", ordered=True)
    store.attach(Bus(), changelog=log)
    store.restore(log.records)
    store.finish_restore(range(4))
    return store


async def test_an_interrupted_batch_is_handled_in_its_order_although_the_broker_was_only_away() -> None:
    store, bus, log = KeyedStore("s", ordered=True), Bus(), Log()
    store.attach(bus, changelog=log)

    async def handle(**after: int) -> None:
        async with store:
            await store.record([state_of("a", 1)], {(topic, 0): n for topic, n in after.items()})

    bus.away = True
    with pytest.raises(Unavailable):
        await handle(u=4, t=9)
    bus.away = False

    for too_early in ({"t": 9}, {"u": 5}, {"u": 4, "t": 10}, {"t": 9, "u": 4}):
        with pytest.raises(Unavailable, match="waits for the rest of a batch"):
            await handle(**too_early)
    await handle(u=2)
    assert restored(log).batch_order.next_topic(0, {"u": 2}.__getitem__) == ("u", 3), (
        "a crash now leaves the same to do"
    )
    for part in ({"u": 4, "t": 5}, {"t": 9}, {"t": 12}):
        await handle(**part)


async def test_a_late_write_of_an_older_state_is_ignored() -> None:
    store, log = KeyedStore("s"), Log()
    store.attach(Bus(), changelog=log)
    for offset, value in ((5, b"old"), (6, b"new")):
        async with store:
            store.put("k", value, at(offset))
    async with store:
        store.put("k", b"swept", at(-1, topic=""))
    late = log.records[0]

    log.records.append(late)

    assert list(restored(log).items()) == [(0, "k", b"swept")]


async def test_a_store_whose_partitions_are_revoked_commits_nothing() -> None:
    store, bus, log = KeyedStore("s", ordered=True), Bus(), Log()
    store.attach(bus, changelog=log)
    store.abandon()

    async def unit() -> None:
        async with store:
            store.put("k", b"1", at(0))
            await store.record([state_of("a", 1)], {("t", 0): 1})

    with pytest.raises(Unavailable, match="taken away"):
        await unit()
    assert (bus.taken, log.records, list(store.items())) == ([], [], [])

    store.finish_restore([0])
    await unit()


steps = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "put", "delete"])), min_size=1, max_size=12)


@given(steps, st.integers(1, 4), st.data())
async def test_wherever_a_crash_ends_the_changelog_a_replay_gives_the_same_state(
    steps: list[tuple[str, str]], batch: int, data: st.DataObject
) -> None:
    async def play(store: KeyedStore) -> None:
        for first in range(0, len(steps), batch):
            async with store:
                for offset, (key, what) in list(enumerate(steps))[first : first + batch]:
                    if store.has_applied(key, at(offset)):
                        continue
                    if what == "delete":
                        store.delete(key, at(offset))
                    else:
                        store.put(key, (store.get(key, at(offset)) or b"") + str(offset).encode(), at(offset))
                await store.record([], {("t", 0): min(first + batch, len(steps))})

    whole, log = KeyedStore("s"), Log()
    whole.attach(Bus(), changelog=log)
    await play(whole)

    again = KeyedStore("s")
    again.attach(Bus(), MemoryStorage(log.state(data.draw(st.integers(0, len(log.records))))))
    await play(again)

    assert sorted(again.items()) == sorted(whole.items())


def test_stream_time_is_the_slowest_topic_unless_it_is_read_to_its_end() -> None:
    time = StreamTime(["t", "u"])
    time.advance(Position("t", 0, 7, 1000))
    time.advance(Position("u", 0, 2, 50))

    behind = time.now(0, {"t": 9, "u": 5}, wall_ms=9000, grace_ms=0)
    idle = time.now(0, {"t": 9, "u": 3}, wall_ms=9000, grace_ms=0)
    both = time.now(0, {"t": 8, "u": 3}, wall_ms=9000, grace_ms=0)

    assert (behind, idle, both) == (50, 1000, 9000)
