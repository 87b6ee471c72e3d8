"""Topics on a real broker: ours in another shape are refused, those of sources are waited for and never created."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from tests.engines.buses import PARTITIONS, KafkaBus, received, until

from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived
from everloop_schemas.registry import LoopState
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import Position, Record, Source

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize(
    ("partitions", "config", "parts"),
    [
        (PARTITIONS + 1, {}, ["5 partitions", "EVERLOOP_PARTITIONS=5"]),
        (PARTITIONS, {"cleanup.policy": "delete"}, ["cleanup.policy=delete", "needs compact"]),
    ],
)
async def test_a_topic_in_another_shape_is_an_error_that_names_it(
    kafka_bus: KafkaBus, partitions: int, config: dict[str, str], parts: list[str]
) -> None:
    name = kafka_bus.name(LoopState.topic)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bus.settings.kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
    await admin.close()

    with pytest.raises(Misconfigured) as error:
        await ensure_topics(kafka_bus.settings, [LoopState.topic])

    assert all(part in error.value.detail for part in [name, *parts])


async def test_a_source_that_is_not_there_is_waited_for_and_never_created(kafka_bus: KafkaBus) -> None:
    name, handled = "shop.orders-to-come", list[str]()

    def decode(record: Record) -> EventReceived:
        return received((record.value or b"").decode())

    async def handle(event: EventReceived, at: Position) -> list[Event]:
        handled.append(event.id)
        return []

    consumer = kafka_bus.consumer([Source(name, decode, handle)])
    starting = asyncio.create_task(consumer.start())
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bus.settings.kafka_bootstrap)
    await admin.start()
    try:
        await until(lambda: name in (consumer.ready() or ""))
        assert name not in await admin.list_topics()
        await admin.create_topics([NewTopic(name, 2, 1)])
        await asyncio.wait_for(starting, 30)
        await kafka_bus.send_raw(name, b"c1", b"order-1")
        await until(lambda: handled == ["order-1"])
    finally:
        await admin.close()
        await consumer.stop()
