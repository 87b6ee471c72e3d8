"""A Kafka client as any user of the cluster has one: read, write, copy."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from tests.acceptance.house import House


class Record(NamedTuple):
    """A record where it lies."""

    partition: int
    key: bytes
    value: bytes


Change = Callable[[Sequence[Record]], Sequence[Record]]
"""What is made of the records of a topic."""
READ_WITHIN_S = 60.0


def connection(house: House, user: str | None) -> dict[str, Any]:
    """How a user connects: by its certificate, where there is TLS; None is a stranger, who has none."""
    settings = {"bootstrap_servers": house.services()["kafka"]["bootstrap"]}
    folder = house.folder / "certs"
    if not folder.exists():
        return settings
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if user:
        context.load_cert_chain(folder / f"{user}.pem", folder / f"{user}.key")
    return {**settings, "security_protocol": "SSL", "ssl_context": context}


def write(house: House, user: str | None, topic: str, record: Record) -> str:
    """Write as a user; the name of the error, or nothing."""
    return asyncio.run(_write(connection(house, user), topic, [record]))


def write_plain(house: House, topic: str, record: Record) -> str:
    """Write without TLS; the name of the error, or nothing."""
    bootstrap = house.services()["kafka"]["bootstrap"]
    return asyncio.run(_write({"bootstrap_servers": bootstrap}, topic, [record]))


def read(house: House, topic: str) -> list[Record]:
    """Every record of a topic, as its administrator reads them."""
    return asyncio.run(_read(connection(house, "admin"), topic))


def events(house: House, topic: str, loop: str) -> list[dict[str, Any]]:
    """Every event of a loop on a topic."""
    found = [json.loads(record.value) for record in read(house, topic) if record.value]
    return [event for event in found if event.get("loop") == loop]


def copy(house: House, prefix: str, topics: Mapping[str, Change]) -> None:
    """Copy topics under another prefix; each by what is made of its records."""
    asyncio.run(_copy(connection(house, "admin"), prefix, topics))


async def _write(settings: Mapping[str, Any], topic: str, records: Sequence[Record]) -> str:
    producer = AIOKafkaProducer(**settings, request_timeout_ms=8_000)
    try:
        await asyncio.wait_for(producer.start(), 20)
        for record in records:
            sent = producer.send_and_wait(topic, record.value, key=record.key, partition=record.partition)
            await asyncio.wait_for(sent, 20)
    except Exception as e:
        return type(e).__name__
    finally:
        await producer.stop()
    return ""


async def _read(settings: Mapping[str, Any], topic: str) -> list[Record]:
    consumer = AIOKafkaConsumer(topic, **settings, auto_offset_reset="earliest", isolation_level="read_committed")
    await consumer.start()
    try:
        parts = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        ends = await consumer.end_offsets(parts)
        await consumer.seek_to_beginning(*parts)
        found: list[Record] = []
        async with asyncio.timeout(READ_WITHIN_S):
            while not all([await consumer.position(part) >= ends[part] for part in parts]):
                for records in (await consumer.getmany(*parts, timeout_ms=300)).values():
                    found += [Record(r.partition, r.key, r.value) for r in records]
        return found
    finally:
        await consumer.stop()


async def _copy(settings: Mapping[str, Any], prefix: str, topics: Mapping[str, Change]) -> None:
    admin = AIOKafkaAdminClient(**settings)
    await admin.start()
    try:
        for topic, change in topics.items():
            records = await _read(settings, topic)
            described = await admin.describe_topics([topic])
            count = len(described[0]["partitions"])
            compacted = {"cleanup.policy": "compact"} if topic.endswith("_state.v1") else {}
            await admin.create_topics([NewTopic(prefix + topic, count, 1, topic_configs=compacted)])
            if error := await _write(settings, prefix + topic, change(records)):
                raise RuntimeError(f"{prefix}{topic} could not be written: {error}")
    finally:
        await admin.close()


def first(folder: Path, pattern: str) -> Path:
    """The one file of a pattern."""
    [found] = folder.rglob(pattern)
    return found
