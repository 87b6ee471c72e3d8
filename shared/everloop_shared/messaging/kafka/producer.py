"""Publishing to Kafka: idempotent, acknowledged by all, in bounded buffers, with a producer that can be replaced."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from aiokafka.errors import (  # type: ignore[import-untyped]
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from everloop_shared import metrics
from everloop_shared.errors import InputRejected, Misconfigured, Overloaded, Unavailable
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.kafka.producer_connection import (
    CLOSE_TIMEOUT_S,
    OwnHeaders,
    PlacedRecord,
    ProducerConnection,
    publishing_slices,
)
from everloop_shared.messaging.kafka.publish_spans import PublishSpans
from everloop_shared.messaging.kafka.topics import MAX_DEAD_LETTER_BYTES
from everloop_shared.messaging.routes import EVENT_HEADERS, HEADROOM, MAX_MESSAGE_BYTES, EncodedEvent, Headers
from everloop_shared.settings import Settings
from everloop_shared.spans.recorders import recorder_of

log = logging.getLogger(__name__)
REPORT_FAILURE_FOR_S = 5.0
"""For so long after a failed delivery the service reports that it is not ready."""
PLACE_AT_ONCE = 100
"""Events whose partitions are looked up before the clock is looked at."""
CHUNK_RECORDS = 5_000
CHUNK_BYTES = 4_000_000
MAX_UNACKED_BYTES = 64_000_000


class KafkaPublisher:
    """Implements `routes.Publisher` for one process; may be called concurrently.

    At most `max_unacked_events` events (and 64 MB) wait for acks; more raise Overloaded. An event without an ack
    within the delivery timeout raises Unavailable: it may or may not be on the log, so that a retry may write it
    twice, with the same id. The producer is then replaced, as after any error of its own, because an idempotent
    producer cannot continue after a gap.
    """

    def __init__(
        self, service: str, settings: Settings, partitions_for: Callable[[Sequence[bytes]], Sequence[int]]
    ) -> None:
        self._service = service
        self._settings = settings
        self._client = client_settings(settings, service)
        self._partitions_for = partitions_for
        self._connection: ProducerConnection | None = None
        self._opening = asyncio.Lock()
        self._discarding: set[asyncio.Task[None]] = set()
        self._closed = False
        self._delivery_timeout_s = settings.delivery_timeout_s
        self._deadlines: set[asyncio.Timeout] = set()
        self._failure: tuple[str, float] | None = None
        recorder = recorder_of(service)
        self._spans = None if recorder is None else PublishSpans(recorder)

    @property
    def recent_failure(self) -> str | None:
        """Why the last delivery failed; None after some seconds, so that a service that is not ready for it retries."""
        if self._failure is None or time.monotonic() > self._failure[1]:
            return None
        return self._failure[0]

    async def publish(self, events: Sequence[EncodedEvent]) -> None:
        """Return once the broker has all of them."""
        started, placed, slices = time.perf_counter(), list[PlacedRecord](), publishing_slices()
        for first in range(0, len(events), PLACE_AT_ONCE):
            placed += self._place(events[first : first + PLACE_AT_ONCE])
            await slices.pause()
        if self._spans is None:
            await self.append(placed, EVENT_HEADERS)
        else:
            own, span = self._spans.begin(events)
            with span:
                await self.append(placed, EVENT_HEADERS, own)
        if events:
            metrics.PUBLISH.labels(self._service).observe(time.perf_counter() - started)
            for topic, count in Counter(topic for topic, _, _ in events).items():
                metrics.PUBLISHED.labels(self._service, topic).inc(count)

    async def append(
        self, records: Sequence[PlacedRecord], headers: Headers = (), own: OwnHeaders | None = None
    ) -> dict[tuple[str, int], int]:
        """Return, once the broker has all of these records in this order, the last offset in each partition."""
        last: dict[tuple[str, int], int] = {}
        for chunk in _chunks(records):
            last |= await self._deliver(chunk, headers, own)
        return last

    def _place(self, events: Sequence[EncodedEvent]) -> Iterator[PlacedRecord]:
        for event in events:
            _check_size(event)
        partitions = self._partitions_for([key for _, key, _ in events])
        return ((topic, p, key, value) for (topic, key, value), p in zip(events, partitions, strict=True))

    def shorten_deadlines(self) -> None:
        """The process is stopping: from now on, and for calls in progress, wait at most 1.5 s for acks."""
        self._delivery_timeout_s = min(self._delivery_timeout_s, CLOSE_TIMEOUT_S)
        latest = asyncio.get_running_loop().time() + self._delivery_timeout_s
        for deadline in self._deadlines:
            deadline.reschedule(min(deadline.when() or latest, latest))

    async def close(self) -> None:
        """Deliver what was sent, within 1.5 s, and close."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection:
            await connection.close()
        await asyncio.gather(*self._discarding)

    async def _deliver(
        self, chunk: Sequence[PlacedRecord], headers: Headers, own: OwnHeaders | None
    ) -> dict[tuple[str, int], int]:
        connection: ProducerConnection | None = None
        try:
            async with self._before_deadline():
                connection = await self._open_connection()
                self._make_room(connection, chunk)
                last = await self._send(connection, chunk, headers, own)
            self._failure = None
            return last
        except TimeoutError:
            if connection:
                self._replace(connection)
            raise self._unavailable(f"did not acknowledge within {self._delivery_timeout_s:g} s") from None
        except MessageSizeTooLargeError as e:
            if connection:
                self._replace(connection)
            raise InputRejected(f"the broker rejects the size of an event: {e}") from e
        except TopicAuthorizationFailedError as e:
            raise Misconfigured(f"the broker does not allow {self._service} to publish: {e}") from e
        except KafkaError as e:
            if connection:
                self._replace(connection)
            raise self._unavailable(repr(e)) from e

    @asynccontextmanager
    async def _before_deadline(self) -> AsyncIterator[None]:
        async with asyncio.timeout(self._delivery_timeout_s) as deadline:
            self._deadlines.add(deadline)
            try:
                yield
            finally:
                self._deadlines.discard(deadline)

    async def _send(
        self, connection: ProducerConnection, chunk: Sequence[PlacedRecord], headers: Headers, own: OwnHeaders | None
    ) -> dict[tuple[str, int], int]:
        acks = await connection.send(self._settings.topic_prefix, chunk, headers, own)
        metrics.UNACKED.labels(self._service).set(connection.unacked)
        await asyncio.wait(acks)
        return {partition: ack.result().offset + place for ack, (partition, place) in acks.items()}

    def _make_room(self, connection: ProducerConnection, chunk: Sequence[PlacedRecord]) -> None:
        size = sum(map(_size, chunk))
        full = connection.unacked + len(chunk) > max(self._settings.max_unacked_events, len(chunk))
        if full or (connection.unacked and connection.unacked_bytes + size > MAX_UNACKED_BYTES):
            raise Overloaded(f"{connection.unacked:,} events already wait for the broker's acks")

    async def _open_connection(self) -> ProducerConnection:
        async with self._opening:
            while self._connection is None or self._connection.broken:
                if self._closed:
                    raise Unavailable("stopping")
                connection = ProducerConnection(self._client, self._settings.delivery_timeout_s)
                try:
                    await connection.start()
                    self._connection = connection
                except BaseException as e:
                    self._discard_later(connection)
                    if not isinstance(e, KafkaError):
                        raise
                    await asyncio.sleep(0.2)
            return self._connection

    def _replace(self, connection: ProducerConnection) -> None:
        if not connection.broken:
            log.warning("replacing the producer", extra={"unacked": connection.unacked})
            self._discard_later(connection)

    def _discard_later(self, connection: ProducerConnection) -> None:
        connection.broken = True
        task = asyncio.create_task(connection.discard())
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)

    def _unavailable(self, what: str) -> Unavailable:
        reason = f"Kafka at {self._settings.kafka_bootstrap} {what}"
        self._failure = reason, time.monotonic() + REPORT_FAILURE_FOR_S
        return Unavailable(reason)


def _check_size(event: EncodedEvent) -> None:
    topic, key, value = event
    limit = (MAX_DEAD_LETTER_BYTES if topic.endswith(".dead_letter.v1") else MAX_MESSAGE_BYTES) - HEADROOM
    if len(key) + len(value) > limit:
        raise InputRejected(f"an event of {topic} has {len(key) + len(value):,} bytes; at most {limit:,} are allowed")


def _chunks(records: Sequence[PlacedRecord]) -> Iterator[Sequence[PlacedRecord]]:
    """Cut into chunks of at most 5,000 records and 4 MB, or one larger record."""
    chunk, size = list[PlacedRecord](), 0
    for record in records:
        length = _size(record)
        if chunk and (len(chunk) >= CHUNK_RECORDS or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += length
    if chunk:
        yield chunk


def _size(record: PlacedRecord) -> int:
    _, _, key, value = record
    return len(key) + len(value or b"")
