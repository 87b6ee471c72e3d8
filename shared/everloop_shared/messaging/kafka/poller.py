"""Polls one consumer and processes what it returns; a partition that backs off pauses while the others go on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    AuthenticationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from everloop_shared import metrics
from everloop_shared.clock import log_time
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.kafka.topics import TopicNames
from everloop_shared.messaging.processing.gathering import BatchGathering
from everloop_shared.messaging.processing.processor import Processor, Progress
from everloop_shared.messaging.routes import CATCH_UP_POLL_S, Partition, Position, Record
from everloop_shared.settings import Settings

log = logging.getLogger(__name__)
POLL_MS = 200
BATCH_BYTES = 8_000_000
"""The most that is processed at a time; as objects it takes up to ten times as much memory."""
STALLED_AFTER_S = 30.0
"""A partition with lag whose offset has not moved for so long is reported as stalled."""
REFUSED = (AuthenticationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError)


async def stop_consumer(consumer: Any, within_s: float) -> None:
    """Stop a consumer; its connections are closed where the broker does not answer in time."""
    stopping = asyncio.ensure_future(consumer.stop())
    done, _ = await asyncio.wait([stopping], timeout=within_s)
    if not done:
        log.warning("the broker does not answer, closing the connections")
        stopping.cancel()
        await consumer._client.close()
        await asyncio.wait([stopping])


@dataclass
class PartitionProgress:
    """The next offset to handle of one partition, since when that has not changed, and the end of the log."""

    next_offset: int
    unchanged_since: float
    end: int

    @property
    def lag(self) -> int:
        """Records that are not handled yet."""
        return max(0, self.end - self.next_offset)


class RecordPoller:
    """Polls one consumer and passes the records to a processor, at most `batch_size` at a time."""

    def __init__(
        self,
        consumer: Any,
        processor: Processor,
        settings: Settings,
        names: TopicNames,
        gather_ms: float = 0,  # at least
    ) -> None:
        self.consumer = consumer
        self._processor = processor
        self._names = names
        self._batch_size = settings.batch_size
        self._gathering = BatchGathering(max(gather_ms, settings.gather_ms), settings.batch_size)
        self._resume_at: dict[TopicPartition, float] = {}
        self._progress: dict[TopicPartition, PartitionProgress] = {}

    async def poll(self) -> Mapping[TopicPartition, Sequence[Any]]:
        """The records that have arrived, or that arrive within `POLL_MS`; empty while the broker is away.

        Raises Misconfigured when the broker refuses the login or the topics.
        """
        await self._gathering.pause()
        self._resume_due()
        try:
            records: Mapping[TopicPartition, Sequence[Any]] = await self.consumer.getmany(
                timeout_ms=self._wait_ms(), max_records=self._batch_size
            )
            self._gathering.record_batch(sum(map(len, records.values())))
            taken = self._limit_bytes(records)
            for tp, batch in taken.items():  # the consumer's position is already behind them: they count as lag
                self._progress_at(tp, batch[0].offset)
            return taken
        except REFUSED as e:
            raise Misconfigured(f"the broker does not allow {self._processor.service} to consume: {e!r}") from e
        except KafkaError as e:
            log.warning("poll failed, trying again", extra={"reason": repr(e)})
            await asyncio.sleep(POLL_MS / 1000)
            return {}

    def _limit_bytes(self, polled: Mapping[TopicPartition, Sequence[Any]]) -> Mapping[TopicPartition, Sequence[Any]]:
        """The first `BATCH_BYTES` of a poll, at least one record; the next poll fetches the rest again."""
        if sum(len(r.value or b"") for records in polled.values() for r in records) <= BATCH_BYTES:
            return polled
        taken, bytes_left = dict[TopicPartition, Sequence[Any]](), BATCH_BYTES
        for tp, records in polled.items():
            count = 0
            while count < len(records) and (bytes_left >= len(records[count].value or b"") or not (taken or count)):
                bytes_left -= len(records[count].value or b"")
                count += 1
            if count:
                taken[tp] = records[:count]
            if count < len(records):
                self.consumer.seek(tp, records[count].offset)
        return taken

    async def handle(self, polled: Mapping[TopicPartition, Sequence[Any]]) -> Progress:
        """Process what was polled; partitions that back off seek to their next offset and pause."""
        batches: dict[Partition, list[Record]] = {
            self._unprefixed(tp): records_of(self._names.of(tp.topic), records) for tp, records in polled.items()
        }
        progress = await self._processor.process(batches)
        for tp, records in polled.items():
            partition = self._unprefixed(tp)
            backoff_s = progress.backoff_s.get(partition)
            if backoff_s is not None and tp in self.consumer.assignment():
                self.consumer.seek(tp, progress.next_offsets.get(partition, records[0].offset))
                self.consumer.pause(tp)
                self._resume_at[tp] = time.monotonic() + backoff_s
            if partition in progress.next_offsets:
                self._record_progress(tp, progress.next_offsets[partition])
        return progress

    def release_partitions(self) -> None:
        """Drop the pauses and the progress of partitions that were revoked."""
        self._resume_at.clear()
        self._progress.clear()

    async def query_ends(self) -> None:
        """Query the end offsets, for lag and liveness; raises KafkaError while the broker is away."""
        assigned = sorted(self.consumer.assignment())
        ends = await self.consumer.end_offsets(assigned) if assigned else {}
        for tp, end in ends.items():
            if tp not in self.consumer.assignment():
                continue
            if tp not in self._progress:
                position = await self.consumer.position(tp)
                self._progress_at(tp, position)  # a poll may have come first meanwhile
            progress = self._progress[tp]
            progress.end = end
            if not progress.lag or tp in self._resume_at:
                progress.unchanged_since = time.monotonic()
            metrics.LAG.labels(self._processor.service, self._unprefixed(tp)[0], tp.partition).set(progress.lag)

    async def caught_up(self) -> None:
        """Wait until the end offsets of the last query are reached."""
        ends = {tp: progress.end for tp, progress in self._progress.items()}
        while any(at.next_offset < ends.get(tp, 0) for tp, at in self._progress.items()):
            await asyncio.sleep(CATCH_UP_POLL_S)

    def reset_stall_clocks(self) -> None:
        """Do not count the time without a broker as a stall."""
        for progress in self._progress.values():
            progress.unchanged_since = time.monotonic()

    def stalled(self) -> str | None:
        """The first partition with lag that has not moved for 30 s, as a sentence; None where there is none."""
        for tp, progress in self._progress.items():
            unchanged_s = time.monotonic() - progress.unchanged_since
            if progress.lag and unchanged_s > STALLED_AFTER_S and tp not in self._resume_at:
                where = f"{tp.topic}/{tp.partition}"
                return f"{where} stands at {progress.next_offset} of {progress.end} for {unchanged_s:.0f} s"
        return None

    def _record_progress(self, tp: TopicPartition, next_offset: int) -> None:
        progress = self._progress_at(tp, next_offset)
        progress.next_offset, progress.unchanged_since = next_offset, time.monotonic()

    def _progress_at(self, tp: TopicPartition, next_offset: int) -> PartitionProgress:
        """The partition's progress, which starts at `next_offset` where it has none yet."""
        return self._progress.setdefault(tp, PartitionProgress(next_offset, time.monotonic(), next_offset))

    def _resume_due(self) -> None:
        now = time.monotonic()
        for tp in [tp for tp, at in self._resume_at.items() if at <= now]:
            del self._resume_at[tp]
            if tp in self.consumer.assignment():
                self.consumer.resume(tp)

    def _wait_ms(self) -> int:
        if not self._resume_at:
            return POLL_MS
        return max(1, min(POLL_MS, int(1000 * (min(self._resume_at.values()) - time.monotonic()))))

    def _unprefixed(self, tp: TopicPartition) -> Partition:
        return self._names.of(tp.topic), tp.partition


def records_of(topic: str, polled: Iterable[Any]) -> list[Record]:
    """Records as aiokafka polled them, which are of the topic that is called so in positions."""
    now_ms = int(time.time() * 1000)
    return [
        Record(
            Position(topic, r.partition, r.offset, log_time(r.timestamp, now_ms), len(r.value or b"")),
            r.key,
            r.value,
            r.headers,
        )
        for r in polled
    ]
