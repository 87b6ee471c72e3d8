"""Consumers without a group: broadcasts, read whole by every process, and the history of one partition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from everloop_schemas.envelope import Event
from everloop_shared.clock import log_time
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.kafka.client import FETCH_BYTES, FETCH_MAX_WAIT_MS, client_settings
from everloop_shared.messaging.kafka.poller import RecordPoller, stop_consumer
from everloop_shared.messaging.kafka.producer import CLOSE_WITHIN_S
from everloop_shared.messaging.kafka.topics import TopicNames
from everloop_shared.messaging.processing.processor import Processor
from everloop_shared.messaging.processing.records import decode_events
from everloop_shared.messaging.routes import Position, Record, Route
from everloop_shared.settings import Settings

READ_WITHIN_S = 30.0


def _consumer(service: str, settings: Settings) -> Any:
    return AIOKafkaConsumer(
        **client_settings(settings, service),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
        max_partition_fetch_bytes=FETCH_BYTES,
    )


class EndDetector:
    """Tells when the wanted parts of some partitions are read, even where the log's last records are gone.

    A compacted or expired tail leaves an end offset that no record reaches: then the broker has answered two fetches
    from where we stand, and nothing of that was given to us. One answer is not enough, it may still lie in the
    consumer's buffer; but then the consumer does not ask for more.
    """

    def __init__(self, consumer: Any, ends: Mapping[TopicPartition, int]) -> None:
        self._consumer = consumer
        self._ends = dict(ends)
        self._stood: dict[TopicPartition, tuple[int, int | None, int]] = {}

    async def has_reached_end(self, polled: Collection[TopicPartition]) -> bool:
        """Whether all is read; to be asked after every poll, with the partitions of what it brought."""
        for tp, end in list(self._ends.items()):
            at, answered = await self._consumer.position(tp), self._consumer.last_poll_timestamp(tp)
            position, before, answers = self._stood.get(tp, (-1, None, 0))
            if tp in polled or at != position:
                answers = 0
            elif answered != before:
                answers += 1
            self._stood[tp] = (at, answered, answers)
            if at >= end or answers == 2:
                del self._ends[tp]
        return not self._ends


async def read_until(consumer: Any, tp: TopicPartition, end: int) -> AsyncIterator[list[Any]]:
    """What lies before `end`, from where the consumer stands, poll by poll; TimeoutError if nothing comes for 30 s."""
    detector, heard = EndDetector(consumer, {tp: end}), time.monotonic()
    while True:
        polled = await consumer.getmany(tp, timeout_ms=200)
        yield [r for r in polled.get(tp, ()) if r.offset < end]
        if await detector.has_reached_end(polled.keys()):
            return
        heard = time.monotonic() if polled else heard
        if time.monotonic() - heard > READ_WITHIN_S:
            raise TimeoutError(f"nothing came from {tp.topic}/{tp.partition}")


class BroadcastFollower:
    """Reads every partition of its topics from the beginning, then follows them; commits nothing."""

    def __init__(
        self,
        service: str,
        routes: Sequence[Route],
        settings: Settings,
        processor: Processor,
        failed: Callable[[Exception], None],
    ) -> None:
        self._routes = {
            TopicPartition(settings.topic_prefix + route.topic.name, p): route
            for route in routes
            for p in range(settings.partitions)
        }
        self._consumer = _consumer(service, settings)
        self.poller = RecordPoller(self._consumer, processor, settings, TopicNames(settings.topic_prefix))
        self._failed = failed
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read from the beginning, or where a route says, to the ends as of now; then follow in the background."""
        await self._consumer.start()
        self._consumer.assign(list(self._routes))
        ends = await self._consumer.end_offsets(list(self._routes))
        for tp, route in self._routes.items():
            at = await route.start_at(route.topic.name, tp.partition) if route.start_at else None
            self._consumer.seek(tp, min(at or 0, ends[tp]))
        detector = EndDetector(self._consumer, ends)
        while not await detector.has_reached_end(await self._round()):
            pass
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish the round in hand and leave."""
        self._stopping.set()
        if self._task:
            await asyncio.wait([self._task])
        await stop_consumer(self._consumer, CLOSE_WITHIN_S)

    async def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                await self._round()
        except Exception as e:
            self._failed(e)

    async def _round(self) -> Collection[TopicPartition]:
        polled = await self.poller.poll()
        if polled:
            progress = await self.poller.handle(polled)
            if progress.failure is not None:
                raise progress.failure
        return polled.keys()


class HistoryReader:
    """Reads parts of partitions, one at a time, with a consumer of its own that is opened when first needed."""

    def __init__(self, service: str, settings: Settings) -> None:
        self._service, self._settings = service, settings
        self._consumer: Any = None
        self._lock = asyncio.Lock()

    async def read(self, topic: str, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """The events with start <= offset < stop; raises Unavailable when the broker falls silent for 30 s."""
        tp, found = TopicPartition(self._settings.topic_prefix + topic, partition), list[tuple[Position, Event]]()
        async with self._lock, _as_unavailable():
            consumer = await self._opened()
            consumer.assign([tp])
            stop = min(stop, (await consumer.end_offsets([tp]))[tp])
            if start >= stop:
                return []
            consumer.seek(tp, start)
            async for records in read_until(consumer, tp, stop):
                found += decode_events([_record(topic, r) for r in records])
            return found

    async def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record will get."""
        tp = TopicPartition(self._settings.topic_prefix + topic, partition)
        async with self._lock, _as_unavailable():
            consumer = await self._opened()
            return int((await consumer.end_offsets([tp]))[tp])

    async def close(self) -> None:
        """Leave."""
        if self._consumer is not None:
            await stop_consumer(self._consumer, CLOSE_WITHIN_S)

    async def _opened(self) -> Any:
        if self._consumer is None:
            consumer = _consumer(self._service, self._settings)
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


def _record(topic: str, r: Any) -> Record:
    at = Position(topic, r.partition, r.offset, log_time(r.timestamp), len(r.value or b""))
    return Record(at, r.key, r.value)
