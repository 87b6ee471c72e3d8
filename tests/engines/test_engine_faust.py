"""What only the Faust engine promises: keyed state that outlives a crash, and a recovery that loses nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from faust.tables.recovery import Recovery
from tests.engines.buses import SERVICE, FaustBus, computed, has_outputs, received, running_group, send_all, until

from everloop.local.kafka import Broker
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_shared.errors import RetryLater, Unavailable
from everloop_shared.messaging.faust import consumer as faust_consumer
from everloop_shared.messaging.faust import recovery
from everloop_shared.messaging.faust.app import new_app
from everloop_shared.messaging.faust.consumer import FaustConsumer, FaustSettings
from everloop_shared.messaging.kafka.client import FETCH_MAX_WAIT_MS
from everloop_shared.messaging.kafka.engine import KafkaEngine
from everloop_shared.messaging.keyed.groups import KeyedGroup
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import MAX_MESSAGE_BYTES, Position, Route

pytestmark = pytest.mark.kafka
TOPIC = EventReceived.topic


class Counter:
    """Counts per key; forgets a key at the event called `forget-…`, and waits for the gate at `early-…`."""

    def __init__(self) -> None:
        self.store = KeyedStore("counts")
        self.restored: list[tuple[str, int]] = []
        self.swept: list[Position] = []
        self.early = True

    async def on_event_received(self, event: EventReceived, at: Position) -> Sequence[Event]:
        key = event.key().decode()
        if self.store.has_applied(key, at):
            return []
        if event.id.startswith("early") and self.early:
            raise RetryLater("not yet")
        if event.id.startswith("forget"):
            self.store.delete(key, at)
            return []
        if event.id.startswith("huge"):
            self.store.put(key, b"0" * (MAX_MESSAGE_BYTES + 1), at)
            return []
        self.store.put(key, json.dumps(self.count(key, at) + 1).encode(), at)
        return [computed(event)]

    def count(self, key: str, at: Position) -> int:
        return int(json.loads(self.store.get(key, at) or b"0"))

    async def sweep(self, at: Position) -> Sequence[Event]:
        self.swept.append(at)
        return []

    def on_restored(self) -> None:
        self.restored = [(key, int(json.loads(value))) for _, key, value in self.store.items()]

    @asynccontextmanager
    async def running(self, bus: FaustBus) -> AsyncIterator[FaustConsumer]:
        settings = FaustSettings(**bus.settings.model_dump(), sweep_interval_s=0.1)
        group = KeyedGroup(self.store, [Route(TOPIC, self.on_event_received)], self.sweep, self.on_restored)
        async with running_group(group, KafkaEngine(SERVICE, settings), settings) as consumer:
            yield consumer


@pytest.fixture
def bus(faust_bus: FaustBus) -> FaustBus:
    """The bus of this file."""
    return faust_bus


def test_the_patch_still_fits_the_faust_it_was_written_for() -> None:
    """On a failure: read the new source, run the crash tests long, and only then renew the digests."""
    found = {name: recovery.upstream_digest(name) for name in recovery.UPSTREAM}

    assert found == recovery.UPSTREAM


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The Faust apps that engines build during the test."""
    built: list[Any] = []

    def build(service: str, settings: FaustSettings) -> Any:
        built.append(new_app(service, settings))
        return built[-1]

    monkeypatch.setattr(faust_consumer, "new_app", build)
    return built


async def test_a_fetch_of_idle_partitions_delays_the_others_no_longer_than_in_the_kafka_engine(
    bus: FaustBus, apps: list[Any]
) -> None:
    async with Counter().running(bus):
        [app] = apps
        fetcher = app.consumer._thread._consumer._fetcher  # noqa: SLF001 - Faust shows it in no other way

        assert fetcher._fetch_max_wait_ms == FETCH_MAX_WAIT_MS  # noqa: SLF001


async def test_state_is_restored_after_a_restart(bus: FaustBus) -> None:
    async with Counter().running(bus):
        await send_all(bus, [received(f"{i}", entity=f"u{i % 3}") for i in range(9)])
        await until(lambda: has_outputs(bus, 9))
    counter = Counter()

    async with counter.running(bus):
        await send_all(bus, [received("9", entity="u0")])
        await until(lambda: has_outputs(bus, 10))

    assert sorted(counter.restored) == [("l/u0", 3), ("l/u1", 3), ("l/u2", 3)]
    assert {key: int(value) for _, key, value in counter.store.items()} == {"l/u0": 4, "l/u1": 3, "l/u2": 3}


async def test_faust_does_not_record_gaps_in_the_changelog(bus: FaustBus, kafka: Broker, apps: list[Any]) -> None:
    """Compaction leaves thousands of gaps; Faust would merge all of them at each: minutes at every start."""
    async with Counter().running(bus):
        pass
    topic = f"{bus.settings.topic_prefix}{SERVICE}.counts.changelog"
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic)
    await producer.start()
    try:
        for key in (b"0|l/a", b"0|l/b"):  # the end of each transaction takes an offset of its own
            async with producer.transaction():
                await producer.send_and_wait(topic, b"{}\n1", key, partition=0)
    finally:
        await producer.stop()
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as plain:
        await plain.send_and_wait(topic, b"{}\n1", b"0|l/c", partition=0)
    counter = Counter()

    async with counter.running(bus):
        [_, app] = apps
        trees = app.consumer._gap  # noqa: SLF001 - Faust shows it in no other way
        gaps = [tp for tp, tree in trees.items() if tree and tp.topic == topic]

    assert (sorted(counter.restored), gaps) == ([("l/a", 1), ("l/b", 1), ("l/c", 1)], [])


async def test_a_deleted_key_stays_deleted(bus: FaustBus) -> None:
    async with Counter().running(bus):
        await send_all(bus, [received("0"), received("forget"), received("1", entity="b")])
        await until(lambda: has_outputs(bus, 2))
        await until(lambda: _committed(bus, 3))
    counter = Counter()

    async with counter.running(bus):
        pass

    assert counter.restored == [("l/b", 1)]


async def test_a_state_that_does_not_fit_a_record_is_a_dead_letter_and_the_rest_is_handled(bus: FaustBus) -> None:
    counter = Counter()

    async with counter.running(bus) as consumer:
        await send_all(bus, [received("0", entity="u0"), received("huge", entity="u0"), received("1", entity="u0")])
        await until(lambda: has_outputs(bus, 2))
        dead_letters = await bus.sent(DEAD_LETTERS[SERVICE].topic)

        assert [each["data"]["error"] for each in dead_letters] == ["InputRejected"]
        assert "does not fit a record" in dead_letters[0]["data"]["reason"]
        assert consumer.live() is None
        assert {json.loads(value) for _, _, value in counter.store.items()} == {2}


async def test_a_partition_that_backs_off_keeps_its_order_and_does_not_delay_the_others(bus: FaustBus) -> None:
    counter = Counter()
    async with counter.running(bus):
        await send_all(bus, [received("early-0", entity="a"), received("after", entity="a")])
        await send_all(bus, [received(f"{i}", entity=f"u{i}") for i in range(40)])
        await until(lambda: has_outputs(bus, 20))

        counter.early = False

        await until(lambda: has_outputs(bus, 42))
    ids = [e["id"] for e in await bus.sent(FeaturesComputed.topic)]
    assert ids.index("of-early-0") < ids.index("of-after")


async def test_stream_time_advances_without_records(bus: FaustBus) -> None:
    counter = Counter()
    async with counter.running(bus):
        await until(lambda: {at.partition for at in counter.swept if at.timestamp > 1e12} == {0, 1, 2, 3})


async def test_it_continues_after_a_restart_of_the_broker(bus: FaustBus, kafka: Broker) -> None:
    counter = Counter()
    async with counter.running(bus) as consumer:
        await send_all(bus, [received(f"{i}", entity=f"u{i % 5}") for i in range(50)])
        await until(lambda: has_outputs(bus, 50))

        await kafka.kill()
        await kafka.restart()
        await send_all(bus, [received(f"{i}", entity=f"u{i % 5}") for i in range(50, 100)])

        await until(lambda: has_outputs(bus, 100), within_s=40)
        await until(lambda: consumer.ready() is None, within_s=20)
        assert consumer.live() is None
    assert sum(int(value) for _, _, value in counter.store.items()) == 100


async def test_a_recovery_that_does_not_move_fails(bus: FaustBus, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Recovery, "_build_highwaters", never)
    monkeypatch.setattr(faust_consumer, "RECOVERY_STALLED_AFTER_S", 3.0)

    with pytest.raises(Unavailable, match="has not moved for 3 s"):
        async with asyncio.timeout(20), Counter().running(bus):
            pass


async def _committed(bus: FaustBus, offsets: int) -> bool:
    return await bus.committed(TOPIC) == offsets


async def test_a_second_replica_takes_over_without_counting_twice(bus: FaustBus) -> None:
    one, other = Counter(), Counter()
    async with one.running(bus):
        await send_all(bus, [received(f"{i}", entity=f"u{i % 8}") for i in range(80)])
        await until(lambda: has_outputs(bus, 80))
        bus.settings = bus.settings.model_copy(update={"instance": "two"})

        async with other.running(bus):
            await send_all(bus, [received(f"{i}", entity=f"u{i % 8}") for i in range(80, 160)])
            await until(lambda: has_outputs(bus, 160))
            await asyncio.wait_for(_until_done(bus), 20)
            mine = {key: int(value) for _, key, value in one.store.items()}
            theirs = {key: int(value) for _, key, value in other.store.items()}

    assert mine | theirs == {f"l/u{i}": 20 for i in range(8)}


async def _until_done(bus: FaustBus) -> None:
    await until(lambda: _committed(bus, 160))
