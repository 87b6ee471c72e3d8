"""How our consumers and producers ask the broker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from tests.builders.events import features_computed, observation
from tests.engines.buses import NOW, PARTITIONS, KafkaBus

from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.kafka.partitioning import partition_of
from everloop_shared.messaging.routes import connected

pytestmark = pytest.mark.kafka
TOPIC = EventReceived.topic
LONG_MS = 8_000


@pytest.fixture
async def consumer(kafka_bus: KafkaBus) -> Any:
    """A consumer whose fetches wait very long, not started."""
    return AIOKafkaConsumer(
        **client_settings(kafka_bus.settings, "test"), fetch_max_wait_ms=LONG_MS, auto_offset_reset="earliest"
    )


async def test_the_ends_are_known_at_once_while_a_fetch_waits_for_records(kafka_bus: KafkaBus, consumer: Any) -> None:
    await kafka_bus.send(TOPIC, b"k", b"v")
    await consumer.start()
    try:
        partitions = [TopicPartition(kafka_bus.name(TOPIC), p) for p in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.getone()
        await asyncio.sleep(0)  # the next fetch waits for records

        async with asyncio.timeout(LONG_MS / 2000):
            ends = await consumer.end_offsets(partitions)

        assert sum(ends.values()) == 1
    finally:
        await consumer.stop()


async def test_records_of_a_resumed_partition_do_not_wait_for_the_idle_ones(kafka_bus: KafkaBus, consumer: Any) -> None:
    await kafka_bus.send(TOPIC, b"k", b"v")
    paused = TopicPartition(kafka_bus.name(TOPIC), partition_of(b"k", PARTITIONS))
    await consumer.start()
    try:
        consumer.assign([TopicPartition(paused.topic, p) for p in range(PARTITIONS)])
        consumer.pause(paused)
        assert await consumer.getmany(timeout_ms=200) == {}
        consumer.resume(paused)

        async with asyncio.timeout(LONG_MS / 2000):
            record = await consumer.getone()

        assert record.value == b"v"
    finally:
        await consumer.stop()


async def test_records_of_one_call_keep_their_order_over_many_batches_of_the_producer(kafka_bus: KafkaBus) -> None:
    causes = [observation(f"{i}", {"x": 20_000 * "x"}, "one", loop="l", revision=0, time=NOW) for i in range(120)]
    events = [features_computed(c.id, c.data.fields, "one", id=f"of-{c.id}", loop="l", time=NOW) for c in causes]

    async with connected(kafka_bus.engine()) as engine:
        await asyncio.gather(*(engine.publish(events[first : first + 40]) for first in range(0, 120, 40)))

    published = [e["id"] for e in await kafka_bus.sent(FeaturesComputed.topic)]
    for first in range(0, 120, 40):
        ids = [e.id for e in events[first : first + 40]]
        assert [i for i in published if i in set(ids)] == ids
