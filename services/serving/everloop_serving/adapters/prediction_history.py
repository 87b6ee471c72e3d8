"""Reads the end of `serving.prediction_made.v1` back, so that repeated requests and records get the same prediction."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime, timedelta

from everloop_schemas.serving import PredictionMade
from everloop_serving.domain.recent import RecentPredictions
from everloop_shared.messaging.routes import LogReader

log = logging.getLogger(__name__)
RECORDS_PER_READ = 1_000


class TopicPredictionHistory:
    """Reads back as far as a repeated record can reach.

    The first record handled on a partition after its assignment is the oldest that was not committed. The owner before
    published its predictions from this record and later ones after the record was written. So the topic since the
    record's broker timestamp, less `margin` for clocks that differ, has all of them, in whichever partition they are.
    At least `records` per partition are read, at most `limit` in all.
    """

    def __init__(
        self,
        recent: RecentPredictions,
        reader: LogReader,
        *,
        partitions: int,
        records: int,
        limit: int,
        margin: timedelta,
    ) -> None:
        self._recent, self._reader, self._partitions = recent, reader, partitions
        self._records, self._limit, self._margin = records, limit, margin
        self._assigned_at: dict[int, float] = {}
        self._read_for: set[int] = set()
        self._one_at_a_time = asyncio.Lock()
        self._read_at, self._read_since_ms = float("-inf"), float("inf")

    async def on_assigned(self, topic: str, partition: int) -> int | None:
        """The consumer's `start_at`: the partition goes on from its commit."""
        self._read_for.discard(partition)
        self._assigned_at[partition] = time.monotonic()
        return None

    def is_read_for(self, partition: int) -> bool:
        """Whether the history was read since this partition was assigned."""
        return partition in self._read_for

    async def read_for(self, partition: int, since: datetime) -> None:
        """Read the history for a partition whose first record was written at `since`."""
        since_ms = (since - self._margin).timestamp() * 1000
        async with self._one_at_a_time:
            if self._read_at < self._assigned_at.get(partition, 0.0) or since_ms < self._read_since_ms:
                await self._read(since_ms)
            self._read_for.add(partition)

    def not_read(self) -> str | None:
        """None once the history was read, for /readyz."""
        return None if self._read_at > float("-inf") else "the latest predictions have not been read back yet"

    async def read_once(self) -> None:
        """Read the history at the start, for REST requests that are repeated."""
        async with self._one_at_a_time:
            if self.not_read():
                await self._read(time.time() * 1000)

    async def _read(self, since_ms: float) -> None:
        read_at, left = time.monotonic(), self._limit
        for partition in range(self._partitions):
            left -= await self._read_partition(partition, since_ms, left)
        if left <= 0:
            log.warning(
                "more predictions than are remembered: older repeats may get another one", extra={"limit": self._limit}
            )
        self._read_at, self._read_since_ms = read_at, since_ms

    async def _read_partition(self, partition: int, since_ms: float, limit: int) -> int:
        """Read a partition backwards; returns how many records were read."""
        stop, done = await self._reader.end_offset(PredictionMade.topic, partition), 0
        while stop > 0 and done < limit:
            start = max(0, stop - RECORDS_PER_READ)
            found = await self._reader.read(PredictionMade.topic, partition, start, stop)
            self._recent.add_published(event for _, event in found if isinstance(event, PredictionMade))
            stop, done = start, done + RECORDS_PER_READ
            old = not found or found[0][0].timestamp < since_ms
            if old and done >= self._records:
                break
        return done
