"""Reads the partitions of a cluster record by record, and writes them to another at the same offsets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from everloop.backup.cut import Ends
from everloop.backup.errors import RestoreFailed
from everloop.backup.records import GAP, BackupRecord
from everloop.local.errors import InstallationError
from everloop_schemas.envelope import Topic
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.kafka.follower import read_until
from everloop_shared.settings import Settings

MAX_IN_FLIGHT = 2_000
"""Records sent and not acknowledged yet."""
MAX_REQUEST_BYTES = 16 * 1024 * 1024


class ClusterUnreachable(InstallationError):
    """Kafka does not answer."""


@asynccontextmanager
async def cluster_errors(settings: Settings) -> AsyncIterator[None]:
    """Raise the errors of the Kafka client as ClusterUnreachable."""
    try:
        yield
    except (KafkaError, TimeoutError) as e:
        fix = "Start it, or name another with --kafka."
        raise ClusterUnreachable(f"Kafka at {settings.kafka_bootstrap} does not answer: {e!r}.", fix) from e


class ClusterReader:
    """Reads whole partitions, without a consumer group."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._prefix = settings, settings.topic_prefix
        self._partitions: dict[str, list[int]] = {}
        self._consumer = AIOKafkaConsumer(
            **client_settings(settings, "backup"),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )

    async def __aenter__(self) -> Self:
        async with admin(self._settings) as client:
            names = [name for name in await client.list_topics() if name.startswith(self._prefix)]
            for topic in await client.describe_topics(names) if names else ():
                self._partitions[topic["topic"]] = sorted(p["partition"] for p in topic["partitions"])
        try:
            await self._consumer.start()
            await asyncio.sleep(0)  # the client's own task must have begun: a stop before that would cancel this one
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._consumer.stop()

    @property
    def names(self) -> set[str]:
        """The topics that were there on entering, without the prefix."""
        return {name.removeprefix(self._prefix) for name in self._partitions}

    async def ends(self, topics: Sequence[Topic]) -> Ends:
        """The offset that the next record of each partition will get."""
        return await self._offsets(topics, self._consumer.end_offsets)

    async def starts(self, topics: Sequence[Topic]) -> Ends:
        """The offset of the first record that is left on each partition."""
        return await self._offsets(topics, self._consumer.beginning_offsets)

    async def _offsets(self, topics: Sequence[Topic], ask: Callable[[Any], Awaitable[dict[Any, int]]]) -> Ends:
        asked = {self._prefix + topic.name: topic.name for topic in topics}
        parts = [TopicPartition(name, p) for name in asked for p in self._partitions.get(name, ())]
        found = await ask(parts) if parts else {}
        return {(asked[tp.topic], tp.partition): offset for tp, offset in found.items()}

    async def read(self, topic: str, partition: int, end: int) -> AsyncIterator[BackupRecord]:
        """The records before `end`, from the first that is left. Raises TimeoutError when nothing comes for 30 s."""
        tp = TopicPartition(self._prefix + topic, partition)
        self._consumer.assign([tp])
        await self._consumer.seek_to_beginning(tp)
        async for records in read_until(self._consumer, tp, end):
            for r in records:
                yield BackupRecord(r.offset, r.timestamp, r.key, r.value, r.headers)


class ClusterWriter:
    """Writes empty partitions that no other producer writes to."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._prefix = settings, settings.topic_prefix
        self._producer = AIOKafkaProducer(
            **client_settings(settings, "restore"),
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=1024 * 1024,
            max_request_size=MAX_REQUEST_BYTES,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._producer.stop()

    async def write(
        self, topic: str, partition: int, records: Iterator[BackupRecord], start: int, end: int | None
    ) -> AsyncIterator[int]:
        """Write the records, each at its own offset, and end at `end`; yields the count from time to time.

        With `end` None (compacted topics) their offsets are not kept. Otherwise every missing offset is filled with an
        empty record, and what is before `start` is deleted again. Raises RestoreFailed when a record gets another
        offset: then another producer writes to the partition.
        """
        sent, offset, waiting = 0, 0, deque[tuple[int, Any]]()
        for record in records:
            if end is not None:
                offset = await self._fill(topic, partition, offset, record.offset, waiting)
            waiting.append((offset, await self._send(topic, partition, record)))
            sent, offset = sent + 1, offset + 1
            if len(waiting) >= MAX_IN_FLIGHT:
                await self._check_offsets(topic, waiting, MAX_IN_FLIGHT // 2)
                yield sent
        if end is not None:
            await self._fill(topic, partition, offset, end, waiting)
        await self._check_offsets(topic, waiting, 0)
        if end is not None and start > 0:
            await self._delete_before(topic, partition, start)
        yield sent

    async def _fill(self, topic: str, partition: int, start: int, end: int, waiting: deque[tuple[int, Any]]) -> int:
        for offset in range(start, end):
            waiting.append((offset, await self._send(topic, partition, BackupRecord(offset, 0, GAP, None))))
            if len(waiting) >= MAX_IN_FLIGHT:
                await self._check_offsets(topic, waiting, MAX_IN_FLIGHT // 2)
        return max(start, end)

    async def _send(self, topic: str, partition: int, record: BackupRecord) -> Any:
        return await self._producer.send(
            self._prefix + topic,
            value=record.value,
            key=record.key,
            partition=partition,
            timestamp_ms=record.time if record.time > 0 else None,
            headers=list(record.headers),
        )

    async def _check_offsets(self, topic: str, waiting: deque[tuple[int, Any]], left: int) -> None:
        while len(waiting) > left:
            expected, sending = waiting.popleft()
            offset = (await sending).offset
            if offset != expected:
                what = f"A record of {topic} got offset {offset} instead of {expected}"
                raise RestoreFailed(f"{what}: another producer writes to this topic.", "Stop the services first.")

    async def _delete_before(self, topic: str, partition: int, before: int) -> None:
        async with admin(self._settings) as client:
            tp = TopicPartition(self._prefix + topic, partition)
            await client.delete_records({tp: RecordsToDelete(before_offset=before)})


@asynccontextmanager
async def admin(settings: Settings) -> AsyncIterator[Any]:
    """An admin client of the cluster."""
    client = AIOKafkaAdminClient(**client_settings(settings, "backup"))
    try:
        await client.start()
        yield client
    finally:
        await client.close()
