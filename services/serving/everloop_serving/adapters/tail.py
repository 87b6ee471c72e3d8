"""The end of `serving.prediction_made.v1`, read back so that what is asked again is answered as before."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import datetime, timedelta

from everloop_schemas.serving import PredictionMade
from everloop_serving.domain.recent import Recent
from everloop_shared.messaging.routes import LogReader

log = logging.getLogger(__name__)
CHUNK = 1_000


class TopicTail:
    """Reads back as far as a repeat can reach.

    The first record handled on a partition after its assignment is the oldest that was not committed. Whatever
    the owner before us said about it, or about a later one, was put on the topic after that record was, so the
    tail since its broker timestamp, less `margin` for clocks that differ, holds all of it, in whichever partition
    of the predictions it lies. At least `records` per partition are read, at most `limit` in all.
    """

    def __init__(
        self, recent: Recent, log: LogReader, *, partitions: int, records: int, limit: int, margin: timedelta
    ) -> None:
        self._recent, self._log, self._partitions = recent, log, partitions
        self._records, self._limit, self._margin = records, limit, margin
        self._assigned: dict[int, float] = {}
        self._covered: set[int] = set()
        self._one_at_a_time = asyncio.Lock()
        self._read_at, self._reach_ms = float("-inf"), float("inf")

    async def assigned(self, topic: str, partition: int) -> int | None:
        """The engine's `start_at`: a partition is ours from now on, and goes on from its commit."""
        self._covered.discard(partition)
        self._assigned[partition] = time.monotonic()
        return None

    def covers(self, partition: int) -> bool:
        """Whether the tail has been read since this partition was assigned."""
        return partition in self._covered

    async def cover(self, partition: int, since: datetime) -> None:
        """Read the tail for a partition whose first record was put there at `since`."""
        since_ms = (since - self._margin).timestamp() * 1000
        async with self._one_at_a_time:
            if self._read_at < self._assigned.get(partition, 0.0) or since_ms < self._reach_ms:
                await self._read(since_ms)
            self._covered.add(partition)

    def not_read(self) -> str | None:
        """None once the tail has been read, for /readyz."""
        return None if self._read_at > float("-inf") else "the tail of the predictions has not been read yet"

    async def start(self) -> None:
        """Read the tail once, for REST requests that come again."""
        async with self._one_at_a_time:
            if self.not_read():
                await self._read(time.time() * 1000)

    async def _read(self, since_ms: float) -> None:
        read_at, left = time.monotonic(), self._limit
        for partition in range(self._partitions):
            left -= await self._read_partition(partition, since_ms, left)
        if left <= 0:
            log.warning("tail: more than is remembered; older repeats may differ", extra={"limit": self._limit})
        self._read_at, self._reach_ms = read_at, since_ms

    async def _read_partition(self, partition: int, since_ms: float, limit: int) -> int:
        stop, done = await self._log.end_offset(PredictionMade.topic, partition), 0
        while stop > 0 and done < limit:
            start = max(0, stop - CHUNK)
            found = await self._log.read(PredictionMade.topic, partition, start, stop)
            self._recent.found([event for _, event in found if isinstance(event, PredictionMade)])
            stop, done = start, done + CHUNK
            old = not found or found[0][0].timestamp < since_ms
            if old and done >= self._records:
                break
        return done
