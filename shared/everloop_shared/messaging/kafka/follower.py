"""Consumers without a group: broadcasts, which every process reads whole, and the history of one partition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from everloop_schemas.envelope import Event
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.kafka.client import FETCH_BYTES, FETCH_MAX_WAIT_MS, client_settings
from everloop_shared.messaging.kafka.poller import RecordPoller, records_of, stop_consumer
from everloop_shared.messaging.kafka.producer_connection import CLOSE_TIMEOUT_S
from everloop_shared.messaging.kafka.topics import TopicNames
from everloop_shared.messaging.processing.processor import Processor
from everloop_shared.messaging.processing.records import decode_events
from everloop_shared.messaging.routes import Position, Record, Route
from everloop_shared.settings import Settings
from everloop_shared.signing import trust_of

READ_TIMEOUT_S = 30.0
"""A read of history fails when nothing arrives for so long."""
POLL_MS = 200
BROADCAST_GATHER_MS = 50
"""Nobody waits for one broadcast of many, so their batches gather for longer while they come fast."""
HISTORY_MAX_WAIT_MS = 50
"""How long a fetch of history waits at the end of the log; the next read waits for it."""


def _consumer(service: str, settings: Settings, fetch_max_wait_ms: int = FETCH_MAX_WAIT_MS) -> Any:
    return AIOKafkaConsumer(
        **client_settings(settings, service),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=fetch_max_wait_ms,
        max_partition_fetch_bytes=FETCH_BYTES,
    )


EMPTY_ANSWERS_AT_END = 2


class EndDetector:
    """Detects that some partitions are read up to their ends, even where the last records of the log are gone.

    After compaction or retention no record may reach the end offset. Then the end is detected by two fetches that the
    broker answered from the present position without a record for us. One answer does not suffice: its records may
    still be in the consumer's buffer, and the consumer does not fetch again before they are taken.
    """

    def __init__(self, consumer: Any, ends: Mapping[TopicPartition, int]) -> None:
        self._consumer = consumer
        self._ends = dict(ends)
        self._fetches: dict[TopicPartition, tuple[int, int | None, int]] = {}

    async def has_reached_end(self, polled: Collection[TopicPartition]) -> bool:
        """Whether all partitions are read; call it after every poll, with the partitions of its records."""
        for tp, end in list(self._ends.items()):
            position, answered_ms = await self._consumer.position(tp), self._consumer.last_poll_timestamp(tp)
            last_position, last_answered_ms, empty_answers = self._fetches.get(tp, (-1, None, 0))
            if tp in polled or position != last_position:
                empty_answers = 0
            elif answered_ms != last_answered_ms:
                empty_answers += 1
            self._fetches[tp] = (position, answered_ms, empty_answers)
            if position >= end or empty_answers == EMPTY_ANSWERS_AT_END:
                del self._ends[tp]
        return not self._ends


async def read_until(consumer: Any, tp: TopicPartition, end: int) -> AsyncIterator[list[Any]]:
    """The records from the consumer's position to `end`, poll by poll; TimeoutError when none arrives for 30 s."""
    detector, received_at = EndDetector(consumer, {tp: end}), time.monotonic()
    while True:
        polled = await consumer.getmany(tp, timeout_ms=POLL_MS)
        yield [r for r in polled.get(tp, ()) if r.offset < end]
        if await detector.has_reached_end(polled.keys()):
            return
        received_at = time.monotonic() if polled else received_at
        if time.monotonic() - received_at > READ_TIMEOUT_S:
            raise TimeoutError(f"no record of {tp.topic}/{tp.partition} arrived for {READ_TIMEOUT_S:.0f} s")


class BroadcastFollower:
    """Reads every partition of its topics from the beginning, then follows them; commits nothing."""

    def __init__(
        self,
        service: str,
        routes: Sequence[Route],
        settings: Settings,
        processor: Processor,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._routes = {
            TopicPartition(settings.topic_prefix + route.topic.name, p): route
            for route in routes
            for p in range(settings.partitions)
        }
        self._consumer = _consumer(service, settings)
        names = TopicNames(settings.topic_prefix)
        self.poller = RecordPoller(self._consumer, processor, settings, names, BROADCAST_GATHER_MS)
        self._on_failure = on_failure
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read from the beginning, or from where a route starts, to the present ends; then follow in the background."""
        await self._consumer.start()
        self._consumer.assign(list(self._routes))
        ends = await self._consumer.end_offsets(list(self._routes))
        for tp, route in self._routes.items():
            at = await route.start_at(route.topic.name, tp.partition) if route.start_at else None
            self._consumer.seek(tp, min(at or 0, ends[tp]))
        detector = EndDetector(self._consumer, ends)
        while not await detector.has_reached_end(await self._process_batch()):
            pass
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish the current batch and leave."""
        self._stopping.set()
        if self._task:
            await asyncio.wait([self._task])
        await stop_consumer(self._consumer, CLOSE_TIMEOUT_S)

    async def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                await self._process_batch()
        except Exception as e:
            self._on_failure(e)

    async def _process_batch(self) -> Collection[TopicPartition]:
        polled = await self.poller.poll()
        if polled:
            progress = await self.poller.handle(polled)
            if progress.failure is not None:
                raise progress.failure
        return polled.keys()


class HistoryReader:
    """Reads parts of partitions, one at a time, with its own consumer, which connects on first use."""

    def __init__(self, service: str, settings: Settings) -> None:
        self._service, self._settings = service, settings
        self._trust = trust_of(settings)
        self._consumer: Any = None
        self._lock = asyncio.Lock()

    async def read(self, topic: str, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """The events with start <= offset < stop; raises Unavailable when nothing arrives for 30 s."""
        return decode_events(await self.read_records(topic, partition, start, stop), self._trust)

    async def read_records(self, topic: str, partition: int, start: int, stop: int) -> list[Record]:
        """The records with start <= offset < stop; raises Unavailable when nothing arrives for 30 s."""
        tp, found = TopicPartition(self._settings.topic_prefix + topic, partition), list[Record]()
        async with self._lock, _as_unavailable():
            consumer = await self._connected()
            consumer.assign([tp])
            consumer.pause(tp)  # until we know where to begin, and once we have what we want
            try:
                stop = min(stop, (await consumer.end_offsets([tp]))[tp])
                if start < stop:
                    consumer.seek(tp, start)
                    consumer.resume(tp)
                    async for records in read_until(consumer, tp, stop):
                        found += records_of(topic, records)
            finally:
                consumer.pause(tp)
            return found

    async def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record will get."""
        tp = TopicPartition(self._settings.topic_prefix + topic, partition)
        async with self._lock, _as_unavailable():
            consumer = await self._connected()
            return int((await consumer.end_offsets([tp]))[tp])

    async def begin_offset(self, topic: str, partition: int) -> int:
        """The offset of the oldest record that is not deleted."""
        tp = TopicPartition(self._settings.topic_prefix + topic, partition)
        async with self._lock, _as_unavailable():
            consumer = await self._connected()
            return int((await consumer.beginning_offsets([tp]))[tp])

    async def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            await stop_consumer(self._consumer, CLOSE_TIMEOUT_S)

    async def _connected(self) -> Any:
        if self._consumer is None:
            consumer = _consumer(self._service, self._settings, HISTORY_MAX_WAIT_MS)
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer


@asynccontextmanager
async def _as_unavailable() -> AsyncIterator[None]:
    try:
        yield
    except (KafkaError, TimeoutError) as e:
        raise Unavailable(f"Kafka does not answer: {e!r}") from e
