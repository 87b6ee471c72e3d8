"""The bench's own hands on the broker: make topics, fill them, see how far they have come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]

from everloop_schemas.envelope import Event, Topic
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.settings import Settings

PARTITIONS = 4
Record = tuple[bytes, bytes]


class Bus:
    """The topics of an installation under one prefix."""

    def __init__(self, prefix: str, producer: Any, consumer: Any) -> None:
        self._prefix, self._producer, self._consumer = prefix, producer, consumer

    async def fill(self, topic: Topic, records: Iterable[Record]) -> int:
        """Write records as fast as it goes, and return how many; all are acknowledged."""
        count, pending = 0, list[asyncio.Future[Any]]()
        for key, value in records:
            pending.append(await self._producer.send(self._prefix + topic.name, value, key))
            count += 1
            if len(pending) >= 5_000:
                await asyncio.gather(*pending)
                pending.clear()
        await asyncio.gather(*pending)
        return count

    async def put(self, *events: Event) -> None:
        """Write events of one kind to their topic."""
        await self.fill(events[0].topic, [(event.key(), event.encode()) for event in events])

    async def read(self, topic: Topic) -> AsyncIterator[bytes]:
        """The values of all records there are, each partition in its order."""
        partitions = [TopicPartition(self._prefix + topic.name, p) for p in range(PARTITIONS)]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_beginning(*partitions)
        ends = await self._consumer.end_offsets(partitions)
        while any([await self._consumer.position(p) < ends[p] for p in partitions]):
            for records in (await self._consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    yield record.value

    async def count(self, topic: Topic) -> int:
        """How many records there are, or were."""
        name = self._prefix + topic.name
        ends = await self._consumer.end_offsets([TopicPartition(name, p) for p in range(PARTITIONS)])
        return sum(ends.values())


@asynccontextmanager
async def connected(bootstrap: str, prefix: str) -> AsyncIterator[Bus]:
    """Hands on topics that an installation has made."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, max_batch_size=256 * 1024)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await consumer.start()
        try:
            yield Bus(prefix, producer, consumer)
        finally:
            await consumer.stop()
    finally:
        await producer.stop()


@asynccontextmanager
async def topics(bootstrap: str, prefix: str, *wanted: Topic, partitions: int = PARTITIONS) -> AsyncIterator[Bus]:
    """Some topics under a prefix of their own, deleted in the end with all of that prefix: the disk is wanted again."""
    await ensure_topics(Settings(kafka_bootstrap=bootstrap, topic_prefix=prefix, partitions=partitions), wanted)
    try:
        async with connected(bootstrap, prefix) as bus:
            yield bus
    finally:
        await _drop(bootstrap, prefix)


async def _drop(bootstrap: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        await admin.delete_topics([t for t in await admin.list_topics() if t.startswith(prefix)])
    finally:
        await admin.close()
