"""One producer of aiokafka and its records without acks."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import KafkaConnectionError, KafkaError  # type: ignore[import-untyped]

from everloop_shared.messaging.kafka.topics import MAX_DEAD_LETTER_BYTES
from everloop_shared.messaging.routes import Headers
from everloop_shared.messaging.time_slices import TimeSlices

log = logging.getLogger(__name__)
AT_ONCE = 32
"""More records than that are written into batches of their own, in slices, so that requests get in."""
LOOK_EVERY = 16
SLICE_S = 0.0002
"""The shortest slice, in seconds."""
SHARE = 0.25
"""Of the time that others took, which writing records may take: more than it needs to publish what they send."""
CLOSE_TIMEOUT_S = 1.5
"""For each step of a stop, so that a stop without a broker still ends within the time for draining."""
PlacedRecord = tuple[str, int, bytes, bytes | None]
"""Topic without prefix, partition, key and value; a value of None is a tombstone."""
HeaderList = list[tuple[str, bytes]]
"""Headers as aiokafka takes them."""
OwnHeaders = Mapping[int, HeaderList]
"""The headers of single records in place of the shared ones, by `id` of their value, which they follow from."""


def publishing_slices() -> TimeSlices:
    """The slices in which records are written while requests come in."""
    return TimeSlices(SLICE_S, SHARE)


class ProducerConnection:
    """One aiokafka producer and its records without acks; it is discarded when it breaks."""

    def __init__(self, client: dict[str, Any], delivery_timeout_s: float) -> None:
        self.unacked = 0
        self.unacked_bytes = 0
        self.broken = False
        self._producer = AIOKafkaProducer(
            **client | {"request_timeout_ms": int(delivery_timeout_s * 1000)},
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=512 * 1024,
            max_request_size=MAX_DEAD_LETTER_BYTES,
        )

    async def start(self) -> None:
        """Connect; raises KafkaError when the broker is away."""
        try:
            await self._producer.start()
        except BaseException as e:
            traceback.clear_frames(e.__traceback__)  # when cancelled, aiokafka leaves a connection open in there
            raise

    async def send(
        self, prefix: str, records: Sequence[PlacedRecord], headers: Headers, own: OwnHeaders | None = None
    ) -> dict[asyncio.Future[Any], tuple[tuple[str, int], int]]:
        """Add all records, with these headers or their own, to the batches of their partitions.

        Each future is done at the acks of one batch; with it come topic, partition, and the place of its last record.
        A batch that is full waits behind the one before, in order.
        """
        for topic in {record[0] for record in records}:
            await self._producer.client._wait_on_metadata(prefix + topic)
        self._check()
        listed = list(headers)
        if len(records) <= AT_ONCE:
            return self._send_at_once(prefix, records, listed, own)
        filled = await self._fill(records, listed, own)
        last: dict[asyncio.Future[Any], tuple[tuple[str, int], int]] = {}
        for (topic, partition), builders in filled.items():
            for builder in builders:
                count, size = builder.record_count(), builder.size()
                batch = self._batches._append_batch(builder, TopicPartition(prefix + topic, partition))
                self._count(batch.future, count, size)
                last[batch.future] = (topic, partition), count - 1
        return last

    @property
    def _batches(self) -> Any:
        return self._producer._message_accumulator

    def _check(self) -> None:
        if self._batches._exception is not None:
            raise KafkaConnectionError(f"the producer has failed: {self._batches._exception!r}")
        if self._batches._closed:
            raise KafkaConnectionError("the producer is closed")

    def _send_at_once(
        self, prefix: str, records: Sequence[PlacedRecord], headers: HeaderList, own: OwnHeaders | None
    ) -> dict[asyncio.Future[Any], tuple[tuple[str, int], int]]:
        """Add a few records to the batches that wait for the sender, among them those of other calls.

        aiokafka's own `send` makes a future for each record and yields in between, so that the first record leaves
        alone.
        """
        waiting: dict[asyncio.Future[Any], list[int]] = {}
        last: dict[asyncio.Future[Any], tuple[tuple[str, int], int]] = {}
        for topic, partition, key, value in records:
            tp = TopicPartition(prefix + topic, partition)
            its = own.get(id(value), headers) if own else headers
            future, place = _append(self._batches, tp, key=key, value=value, headers=its)
            last[future] = (topic, partition), place
            counted = waiting.setdefault(future, [0, 0])
            counted[0] += 1
            counted[1] += len(key) + len(value or b"")
        for future, (count, size) in waiting.items():
            self._count(future, count, size)
        return last

    async def _fill(
        self, records: Sequence[PlacedRecord], headers: HeaderList, own: OwnHeaders | None
    ) -> dict[tuple[str, int], list[Any]]:
        """The records in new batches, in order; after each slice it is the turn of others."""
        filled: dict[tuple[str, int], list[Any]] = {}
        count, size = len(records), sum(len(key) + len(value or b"") for _, _, key, value in records)
        self.unacked, self.unacked_bytes = self.unacked + count, self.unacked_bytes + size  # others look meanwhile
        try:
            await self._append_in_slices(filled, records, headers, own)
        finally:
            self.unacked, self.unacked_bytes = self.unacked - count, self.unacked_bytes - size
        self._check()
        return filled

    async def _append_in_slices(
        self,
        filled: dict[tuple[str, int], list[Any]],
        records: Sequence[PlacedRecord],
        headers: HeaderList,
        own: OwnHeaders | None,
    ) -> None:
        slices = publishing_slices()
        for number, (topic, partition, key, value) in enumerate(records):
            if number % LOOK_EVERY == 0:
                await slices.pause()
            builders = filled.get((topic, partition))
            if builders is None:
                builders = filled[topic, partition] = [self._batches.create_builder()]
            its = own.get(id(value), headers) if own else headers
            if builders[-1].append(timestamp=None, key=key, value=value, headers=its) is None:
                builders.append(self._batches.create_builder())
                builders[-1].append(timestamp=None, key=key, value=value, headers=its)

    def _count(self, future: asyncio.Future[Any], count: int, size: int) -> None:
        self.unacked += count
        self.unacked_bytes += size
        future.add_done_callback(partial(self._acked, count, size))

    def _acked(self, count: int, size: int, done: asyncio.Future[Any]) -> None:
        self.unacked -= count
        self.unacked_bytes -= size
        if not done.cancelled():
            done.exception()  # retrieved here, because the sender may no longer wait

    async def close(self) -> None:
        """Deliver what is left and close."""
        try:
            await asyncio.wait_for(self._producer.stop(), CLOSE_TIMEOUT_S)
        except (TimeoutError, KafkaError):
            await self.discard()

    async def discard(self) -> None:
        """Close without delivering; all waiting futures fail at once."""
        self.broken = True
        self._producer._message_accumulator.fail_all(KafkaConnectionError("the producer was replaced"))
        self._producer._closed = False
        try:
            await asyncio.wait_for(self._producer.stop(), CLOSE_TIMEOUT_S)
        except Exception as e:  # its sender may fail on batches that have failed already
            log.debug("the producer did not stop", extra={"reason": repr(e)})
            await self._producer.client.close()


def _append(batches: Any, tp: TopicPartition, **record: Any) -> tuple[asyncio.Future[Any], int]:
    """Add one record to the last batch of its partition, or to a new one: the future of its ack, and its place."""
    pending = batches._batches.get(tp)
    batch = pending[-1] if pending else batches._append_batch(batches.create_builder(), tp)
    added = batch._builder.append(timestamp=None, **record)
    if added is None:
        batch = batches._append_batch(batches.create_builder(), tp)
        added = batch._builder.append(timestamp=None, **record)
    return batch.future, added.offset
