"""Kafka at hand: it starts, forgets nothing when killed, and comes back on its port."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]

from everloop.local.kafka import Broker, start_broker

pytestmark = pytest.mark.kafka


async def make_topic(broker: Broker, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


async def write(broker: Broker, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        await asyncio.gather(*[await producer.send(topic, value) for value in values])
    finally:
        await producer.stop()


async def read(broker: Broker, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        async with asyncio.timeout(20):
            return [(await consumer.getone()).value or b"" for _ in range(count)]
    finally:
        await consumer.stop()


async def test_the_session_broker_serves_a_group_at_once(kafka: Broker) -> None:
    await make_topic(kafka, "answers-group")
    await write(kafka, "answers-group", [b"1"])
    consumer = AIOKafkaConsumer(
        "answers-group", bootstrap_servers=kafka.bootstrap, group_id="answers-group", auto_offset_reset="earliest"
    )

    await consumer.start()
    try:
        async with asyncio.timeout(20):
            record = await consumer.getone()
    finally:
        await consumer.stop()

    assert record.value == b"1"


async def test_what_was_acknowledged_survives_kill_9_and_the_port_stays(tmp_path: Path) -> None:
    broker = await start_broker(tmp_path)
    try:
        await make_topic(broker, "kept")
        await write(broker, "kept", [b"%d" % i for i in range(100)])
        before = broker.bootstrap, broker.pid

        await broker.kill()
        await broker.restart()

        assert broker.bootstrap == before[0]
        assert broker.pid != before[1]
        assert await read(broker, "kept", 100) == [b"%d" % i for i in range(100)]
    finally:
        await broker.stop()


async def test_a_taken_port_is_left_and_the_log_goes_on_at_another(tmp_path: Path) -> None:
    broker = await start_broker(tmp_path)
    await make_topic(broker, "moved")
    await write(broker, "moved", [b"here"])
    await broker.stop()
    host, port = broker.bootstrap.split(":")
    squatter = await asyncio.start_server(lambda r, w: w.close(), host, int(port))

    async with squatter:
        again = await start_broker(tmp_path)
        try:
            assert again.bootstrap != broker.bootstrap
            assert await read(again, "moved", 1) == [b"here"]
        finally:
            await again.stop()
