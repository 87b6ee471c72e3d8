"""Reads one source: polls its topic, publishes what the records mean, and commits what the broker has acknowledged."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from zlib import crc32

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from everloop_ingest.adapters.sources.conversion import RecordConverter
from everloop_ingest.adapters.sources.offsets import SourceOffsets
from everloop_ingest.domain.open_letters import OpenLetter
from everloop_ingest.domain.sources.status import SourceStatus
from everloop_ingest.metrics import SOURCE_UP
from everloop_ingest.ports import Seals
from everloop_schemas.envelope import Event
from everloop_schemas.sources import SourceSpec
from everloop_shared.backoff import Backoff
from everloop_shared.clock import Clock, log_time
from everloop_shared.errors import Disposition, InputRejected, ServiceError, Unavailable
from everloop_shared.messaging.kafka.client import group_settings
from everloop_shared.messaging.kafka.poller import stop_consumer
from everloop_shared.messaging.kafka.producer_connection import CLOSE_TIMEOUT_S
from everloop_shared.messaging.routes import Position, Publisher, Record
from everloop_shared.messaging.time_slices import TimeSlices
from everloop_shared.settings import Settings

log = logging.getLogger(__name__)
POLL_MS = 200
FETCH_MAX_BYTES = 8_000_000
"""Fetched ahead of one source, and at least one record."""
PUBLISH_BYTES = 4_000_000
"""Records of so many bytes are published together, at most; as objects they take up to ten times as much memory."""
COMMIT_EVERY_S = 0.25
COMMIT_TIMEOUT_S = 5.0
RETRY = Backoff(first_s=0.5, longest_s=5.0)
PUBLISH_RETRY = Backoff(first_s=0.05, longest_s=2.0)
Converted = list[tuple[Record, Sequence[Event | OpenLetter]]]


class SourceReader(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads one source until it is stopped; a failure is in its status, and it tries again.

    `group` is the consumer group, which the replicas of ingest share. The next records are polled only once those
    before are published: a producer that is behind stops the polling.
    """

    def __init__(
        self,
        source: SourceSpec,
        group: str,
        settings: Settings,
        seals: Seals,
        publisher: Publisher,
        converter: RecordConverter,
        status: SourceStatus,
        clock: Clock,
    ) -> None:
        self.source, self.status, self.converter = source, status, converter
        self._group, self._settings, self._clock = group, settings, clock
        self._seals, self._publisher = seals, publisher
        self._stopping = asyncio.Event()
        self._in_batch = asyncio.Lock()
        self._consumer: Any = None
        self._offsets: SourceOffsets | None = None
        self._uncommitted: dict[TopicPartition, int] = {}
        self._commit_at = 0.0
        self._failure: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read in the background."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish the current batch, commit it, and leave the group; what takes too long is left to the next reader."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=2 * CLOSE_TIMEOUT_S)
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            read_before = self.status.records
            try:
                await self._read()
            except Exception as e:
                failures = 1 if self.status.records > read_before else failures + 1
                reason = e.detail if isinstance(e, ServiceError) else f"{type(e).__name__}: {e}"
                if self.status.detail != reason:  # said once, not with each attempt
                    log.warning("a source is not read", extra=self._names() | {"reason": reason})
                self.status.set("waiting", reason)
            SOURCE_UP.labels(self.status.loop, self.status.source).set(0)
            await self._pause(RETRY.pause_s(max(failures, 1)))

    async def _read(self) -> None:
        self._consumer, self._failure = self._connect(), None
        self._offsets = SourceOffsets(self._consumer, self.source, self.status)
        try:
            await self._consumer.start()
            await self._offsets.prepare()
            self._consumer.subscribe([self.source.topic], listener=self)
            while not self._stopping.is_set():
                await self._read_batch()
        finally:
            with suppress(KafkaError, TimeoutError):
                await asyncio.wait_for(self._commit(), CLOSE_TIMEOUT_S)
            self._uncommitted.clear()
            await stop_consumer(self._consumer, CLOSE_TIMEOUT_S)

    def _connect(self) -> Any:
        client = group_settings(self._settings, "ingest")
        # The assignment goes by client id: the sources of one partition each should not all meet in one replica.
        spread = crc32(f"{self._group}/{self._settings.instance}".encode())
        return AIOKafkaConsumer(
            **client | {"client_id": f"{spread:08x}-{client['client_id']}"},
            group_id=self._group,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_bytes=FETCH_MAX_BYTES,
        )

    async def _read_batch(self) -> None:
        assert self._offsets is not None, "it is reading"
        if self._failure is not None:
            raise self._failure
        try:
            polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=self._settings.batch_size)
        except (OffsetOutOfRangeError, NoOffsetForPartitionError):
            await self._offsets.go_on()
            return
        async with self._in_batch:
            for tp, records in polled.items():
                if tp in self._consumer.assignment():
                    await self._handle(tp, records)
            self.converter.report()
            if self._uncommitted and time.monotonic() >= self._commit_at:
                await self._commit()
        await self._offsets.refresh()

    async def _handle(self, tp: TopicPartition, polled: Sequence[Any]) -> None:
        """Publish what the records of a partition mean, in parts of PUBLISH_BYTES; then they may be committed."""
        assert self._offsets is not None, "it is reading"
        slices, now = TimeSlices(), self._clock()
        now_ms = int(now.timestamp() * 1000)
        converted, size = Converted(), 0
        for i, raw in enumerate(polled, 1):
            at = Position(tp.topic, tp.partition, raw.offset, log_time(raw.timestamp, now_ms), len(raw.value or b""))
            record = Record(at, raw.key, raw.value, raw.headers)
            converted.append((record, self.converter.convert(record, now)))
            size += at.size
            if size >= PUBLISH_BYTES or i == len(polled):
                await self._publish(converted)
                self._uncommitted[tp] = raw.offset + 1
                self._offsets.advance(tp, raw.offset + 1)
                converted, size = Converted(), 0
            await slices.pause()

    async def _publish(self, converted: Converted) -> None:
        try:
            await self._publish_events([event for _, events in converted for event in events])
        except InputRejected:  # the broker refuses the size of one of them
            for record, events in converted:
                try:
                    await self._publish_events(events)
                except InputRejected as e:
                    await self._publish_events([self.converter.reject(record, e)])

    async def _publish_events(self, events: Sequence[Event | OpenLetter]) -> None:
        """Return once the broker has all events, however long that takes; raises Unavailable when stopping.

        Personal values are sealed before; while their keys are away, the source waits as for the broker.
        """
        failures = 0
        while True:
            try:
                await self._publisher.publish(await self._seals.seal(self.status.loop, events))
                self.status.set("reading")
                SOURCE_UP.labels(self.status.loop, self.status.source).set(1)
                return
            except ServiceError as e:
                if e.disposition is not Disposition.RETRY or self._stopping.is_set():
                    raise
                failures += 1
                self.status.set("waiting", f"its events are not published: {e.detail}")
                await self._pause(PUBLISH_RETRY.pause_s(failures))
                if self._stopping.is_set():
                    raise Unavailable("stopping") from e

    async def _commit(self) -> None:
        """Commit what is published; a failed commit is repeated with the next one."""
        assigned = self._consumer.assignment()
        offsets = {tp: offset for tp, offset in self._uncommitted.items() if tp in assigned}
        self._commit_at = time.monotonic() + COMMIT_EVERY_S
        if offsets:
            try:
                async with asyncio.timeout(COMMIT_TIMEOUT_S):
                    await self._consumer.commit(offsets)
            except (KafkaError, TimeoutError) as e:
                log.warning("a commit of a source failed", extra=self._names() | {"reason": repr(e)})
                return
        self._uncommitted.clear()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Let the current batch finish, and commit it."""
        async with self._in_batch:
            await self._commit()
            self._uncommitted.clear()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Go on where the commits say; nothing is fetched before that is known."""
        assert self._offsets is not None, "it has subscribed"
        self._consumer.pause(*assigned)
        try:
            await self._offsets.take_over(assigned)
        except Exception as e:  # aiokafka would only log it
            self._failure = e
            return
        self._consumer.resume(*assigned)
        SOURCE_UP.labels(self.status.loop, self.status.source).set(1)
        self.status.set("reading")

    def _names(self) -> dict[str, Any]:
        return {"loop": self.status.loop, "source": self.status.source, "topic": self.source.topic}

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
