"""The logs on Kafka, record by record: read as they lie there, and written anew at the same offsets."""

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
from everloop.backup.records import GAP, LogRecord
from everloop.local.errors import InstallationError
from everloop_schemas.envelope import Topic
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.kafka.follower import read_on
from everloop_shared.settings import Settings

IN_FLIGHT = 2_000
LARGEST = 16 * 1024 * 1024


class ClusterAway(InstallationError):
    """Kafka does not answer."""


@asynccontextmanager
async def kafka_speaks(settings: Settings) -> AsyncIterator[None]:
    """Say a failure of the cluster in the installation's words."""
    try:
        yield
    except (KafkaError, TimeoutError) as e:
        fix = "Start it, or name another with --kafka."
        raise ClusterAway(f"Kafka at {settings.kafka_bootstrap} does not answer: {e!r}.", fix) from e


class LogReader:
    """Reads partitions whole, without a group."""

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
            await asyncio.sleep(0)  # let the client's own task begin: stopped before, it would cancel us
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

    async def read(self, topic: str, partition: int, end: int) -> AsyncIterator[LogRecord]:
        """The records before `end`, from the first that is left. Raises TimeoutError when nothing comes for 30 s."""
        tp = TopicPartition(self._prefix + topic, partition)
        self._consumer.assign([tp])
        await self._consumer.seek_to_beginning(tp)
        async for records in read_on(self._consumer, tp, end):
            for r in records:
                yield LogRecord(r.offset, r.timestamp, r.key, r.value, r.headers)


class LogWriter:
    """Writes partitions that are empty and that nobody else writes."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._prefix = settings, settings.topic_prefix
        self._producer = AIOKafkaProducer(
            **client_settings(settings, "restore"),
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=1024 * 1024,
            max_request_size=LARGEST,
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
        self, topic: str, partition: int, records: Iterator[LogRecord], start: int, end: int | None
    ) -> AsyncIterator[int]:
        """Write the records, each at its own offset, and end at `end`; yields how many were written, now and then.

        With `end` None they follow each other, whatever their offsets (compacted topics). Otherwise every missing
        offset is filled with an empty record, and what is before `start` is deleted again. Raises RestoreFailed
        when a record lands elsewhere: then somebody else writes there too.
        """
        sent, lands, waiting = 0, 0, deque[tuple[int, Any]]()
        for record in records:
            if end is not None:
                lands = await self._fill(topic, partition, lands, record.offset, waiting)
            waiting.append((lands, await self._send(topic, partition, record)))
            sent, lands = sent + 1, lands + 1
            if len(waiting) >= IN_FLIGHT:
                await self._landed(topic, waiting, IN_FLIGHT // 2)
                yield sent
        if end is not None:
            await self._fill(topic, partition, lands, end, waiting)
        await self._landed(topic, waiting, 0)
        if end is not None and start > 0:
            await self._forget(topic, partition, start)
        yield sent

    async def _fill(self, topic: str, partition: int, lands: int, until: int, waiting: deque[tuple[int, Any]]) -> int:
        for offset in range(lands, until):
            waiting.append((offset, await self._send(topic, partition, LogRecord(offset, 0, GAP, None))))
            if len(waiting) >= IN_FLIGHT:
                await self._landed(topic, waiting, IN_FLIGHT // 2)
        return max(lands, until)

    async def _send(self, topic: str, partition: int, record: LogRecord) -> Any:
        return await self._producer.send(
            self._prefix + topic,
            value=record.value,
            key=record.key,
            partition=partition,
            timestamp_ms=record.time if record.time > 0 else None,
            headers=list(record.headers),
        )

    async def _landed(self, topic: str, waiting: deque[tuple[int, Any]], left: int) -> None:
        while len(waiting) > left:
            expected, sending = waiting.popleft()
            offset = (await sending).offset
            if offset != expected:
                what = f"A record of {topic} landed at offset {offset} instead of {expected}"
                raise RestoreFailed(f"{what}: somebody else writes to this topic.", "Stop the services first.")

    async def _forget(self, topic: str, partition: int, before: int) -> None:
        async with admin(self._settings) as client:
            tp = TopicPartition(self._prefix + topic, partition)
            await client.delete_records({tp: RecordsToDelete(before_offset=before)})


@asynccontextmanager
async def admin(settings: Settings) -> AsyncIterator[Any]:
    """A client for what only administrators do."""
    client = AIOKafkaAdminClient(**client_settings(settings, "backup"))
    try:
        await client.start()
        yield client
    finally:
        await client.close()
