"""Where the reading of a source begins and how far it is: missing topics, lag, and records that are gone."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import TopicPartition  # type: ignore[import-untyped]

from everloop_ingest.domain.sources.status import SourceStatus
from everloop_ingest.metrics import SOURCE_LAG, SOURCE_LOST
from everloop_schemas.sources import SourceSpec
from everloop_shared.errors import Unavailable

log = logging.getLogger(__name__)
REFRESH_EVERY_S = 2.0
CHECK_TOPIC_EVERY_S = 10.0
QUERY_TIMEOUT_S = 5.0
Offsets = Mapping[TopicPartition, int]


class SourceOffsets:
    """Follows the offsets of one consumer of a source, and writes lag and losses into its status."""

    def __init__(self, consumer: Any, source: SourceSpec, status: SourceStatus) -> None:
        self._consumer, self._source, self._status = consumer, source, status
        self._next: dict[TopicPartition, int] = {}
        self._refresh_at = self._topic_check_at = 0.0

    async def prepare(self) -> None:
        """Require the topic, and where the first reading begins at the end, commit that end for all partitions.

        Without these commits, records that arrive while no process reads would be skipped. Raises Unavailable.
        """
        partitions = await self._partitions()
        if self._source.start == "earliest":
            return
        self._consumer.assign(partitions)
        committed = await self._committed(partitions)
        if all(offset is None for offset in committed.values()):
            await self._consumer.commit(await self._consumer.end_offsets(partitions))
        self._consumer.unsubscribe()

    async def take_over(self, partitions: Collection[TopicPartition]) -> None:
        """Seek to where these partitions, and no others, go on: at the commit, or at the beginning."""
        self._next.clear()
        self._status.partitions = len(partitions)
        committed = await self._committed(partitions)
        begins, ends = await self._bounds(partitions)
        for tp, offset in committed.items():
            self._seek(tp, begins[tp] if offset is None else offset, begins[tp], ends[tp])
        self._refresh_at = 0.0

    async def go_on(self) -> None:
        """Seek to where reading can go on: some partition does not have the record that is due."""
        assigned = self._consumer.assignment()
        begins, ends = await self._bounds(assigned)
        for tp in assigned:
            self._seek(tp, self._next.get(tp, begins[tp]), begins[tp], ends[tp])

    def advance(self, tp: TopicPartition, offset: int) -> None:
        """Everything before this offset is published."""
        self._next[tp] = offset

    async def refresh(self) -> None:
        """Bring the lag up to date, every REFRESH_EVERY_S; raises Unavailable where the topic has vanished."""
        now = time.monotonic()
        if now < self._refresh_at:
            return
        self._refresh_at = now + REFRESH_EVERY_S
        if now >= self._topic_check_at:
            await self._partitions()
        _, ends = await self._bounds(self._consumer.assignment())
        # All that was polled is handled here. A position may be further: the marks of transactions are no records.
        known = [tp for tp in ends if tp in self._next and tp in self._consumer.assignment()]
        positions = {tp: await self._consumer.position(tp) for tp in known}
        self._status.lag = sum(max(0, ends[tp] - position) for tp, position in positions.items())
        SOURCE_LAG.labels(self._status.loop, self._status.source).set(self._status.lag)

    async def _partitions(self) -> list[TopicPartition]:
        """The partitions of the topic, as the broker says now."""
        topic = self._source.topic
        async with asyncio.timeout(QUERY_TIMEOUT_S):
            cluster = await self._consumer._client.fetch_all_metadata()  # to ask for one topic could create it
        self._topic_check_at = time.monotonic() + CHECK_TOPIC_EVERY_S
        if topic not in cluster.topics():
            where = f"cluster {self._source.cluster}" if self._source.cluster else "the cluster"
            raise Unavailable(f"the topic {topic} is not on {where}; create it, or correct the source")
        return [TopicPartition(topic, p) for p in sorted(cluster.partitions_for_topic(topic) or ())]

    async def _committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int | None]:
        found = await self._consumer._coordinator.fetch_committed_offsets(list(partitions)) if partitions else {}
        return {tp: found[tp].offset if tp in found and found[tp].offset >= 0 else None for tp in partitions}

    async def _bounds(self, partitions: Collection[TopicPartition]) -> tuple[Offsets, Offsets]:
        """The first offset of each partition, and the end of each."""
        if not partitions:
            return {}, {}
        async with asyncio.timeout(QUERY_TIMEOUT_S):
            return await self._consumer.beginning_offsets(partitions), await self._consumer.end_offsets(partitions)

    def _seek(self, tp: TopicPartition, due: int, begin: int, end: int) -> None:
        """Go on at the record that is due, or at the first that is left; what was deleted before is lost."""
        if due > end:  # another topic of the same name, or one that was restored
            self._note_loss(tp, 0, f"it ends at {end} and was read up to {due}; it is read from its beginning")
            due = begin
        elif due < begin:
            self._note_loss(tp, begin - due, f"it begins at {begin} and was read up to {due}")
            due = begin
        self._next[tp] = due
        self._consumer.seek(tp, due)

    def _note_loss(self, tp: TopicPartition, records: int, what: str) -> None:
        self._status.count_loss(records)
        SOURCE_LOST.labels(self._status.loop, self._status.source).inc(records)
        extra = {"loop": self._status.loop, "source": self._status.source, "partition": f"{tp.topic}/{tp.partition}"}
        log.error("records of a source are gone", extra=extra | {"reason": what})
