"""A batch whose outputs may have been published is handled in the same order again, on Faust."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete  # type: ignore[import-untyped]
from msgspec.structs import replace
from tests.builders.events import rest_observation
from tests.engines.buses import NOW, SERVICE, FaustBus, computed, has_outputs, received, running_group, send_all, until

from everloop.local.kafka import Broker
from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_schemas.serving import ObservationReceived
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.faust.consumer import FaustSettings
from everloop_shared.messaging.kafka.engine import KafkaEngine
from everloop_shared.messaging.keyed.groups import KeyedGroup
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import Position, Route

pytestmark = pytest.mark.kafka
TOPIC = EventReceived.topic


class UnacknowledgedEngine(KafkaEngine):
    """Raises Unavailable although the events are on the log, while `failing`."""

    failing, failures = True, 0

    async def publish(self, events: Sequence[Event]) -> None:
        await super().publish(events)
        if self.failing:
            self.failures += 1
            raise Unavailable("no ack came")


class Concatenation:
    """Publishes after each event all ids of its key so far, from both topics."""

    def __init__(self) -> None:
        self.store = KeyedStore("consumed", ordered=True)

    async def handle(self, event: EventReceived | ObservationReceived, at: Position) -> Sequence[Event]:
        key = event.key().decode()
        if self.store.has_applied(key, at):
            return []
        consumed = (self.store.get(key, at) or b"").decode() + event.id
        self.store.put(key, consumed.encode(), at)
        output = computed(event)
        return [output.copy_with(data=replace(output.data, features={"consumed": consumed}))]


@pytest.fixture
def bus(faust_bus: FaustBus) -> FaustBus:
    """The bus of this file."""
    return faust_bus


@asynccontextmanager
async def concatenating(bus: FaustBus) -> AsyncIterator[UnacknowledgedEngine]:
    concatenation, settings = Concatenation(), FaustSettings(**bus.settings.model_dump())
    engine = UnacknowledgedEngine(SERVICE, settings)
    routes = [Route(TOPIC, concatenation.handle), Route(ObservationReceived.topic, concatenation.handle)]
    async with running_group(KeyedGroup(concatenation.store, routes), engine, settings):
        yield engine


def observed(name: str) -> ObservationReceived:
    return rest_observation(name, {"x": 1.0}, "a", loop="l", revision=0, time=NOW)


async def consumed(bus: FaustBus) -> set[tuple[str, str]]:
    return {(e["id"], e["data"]["features"]["consumed"]) for e in await bus.sent(FeaturesComputed.topic)}


async def test_published_outputs_are_repeated_although_another_topic_has_new_records(bus: FaustBus) -> None:
    async with concatenating(bus) as engine:
        await send_all(bus, [received("a")])
        await until(lambda: engine.failures > 0)
        await send_all(bus, [observed("b")])
        tries = engine.failures
        await until(lambda: engine.failures > tries + 5)

        engine.failing = False

        await until(lambda: has_outputs(bus, 2))
        assert await consumed(bus) == {("of-a", "a"), ("of-b", "ab")}


async def test_the_rest_of_a_batch_that_is_no_longer_on_the_log_is_skipped(bus: FaustBus, kafka: Broker) -> None:
    async with concatenating(bus) as engine:
        await send_all(bus, [received("a")])
        await until(lambda: engine.failures > 0)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        topic = bus.settings.topic_prefix + TOPIC.name
        partitions = {TopicPartition(topic, p): RecordsToDelete(-1) for p in range(bus.settings.partitions)}
        await admin.delete_records(partitions)
    finally:
        await admin.close()

    async with concatenating(bus) as engine:
        engine.failing = False
        await send_all(bus, [observed("b")])

        await until(lambda: has_outputs(bus, 2))
    assert await consumed(bus) == {("of-a", "a"), ("of-b", "b")}
