"""The group consumer: partitions shared with the service's replicas, offsets committed after the effects."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from everloop_shared import metrics
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.kafka.client import group_settings
from everloop_shared.messaging.kafka.poller import RecordPoller, stop_consumer
from everloop_shared.messaging.kafka.producer_connection import CLOSE_TIMEOUT_S
from everloop_shared.messaging.kafka.topics import TopicNames
from everloop_shared.messaging.processing.processor import Processor
from everloop_shared.messaging.routes import StartAt, UnitOfWork
from everloop_shared.settings import Settings

log = logging.getLogger(__name__)
COMMIT_TIMEOUT_S = 5.0
COMMIT_EVERY_S = 0.25


class GroupConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs the group routes of one process; `on_failure` gets an error that must end the process.

    Membership is static, so that a restart within the session timeout moves no partition.
    """

    def __init__(
        self,
        service: str,
        topics: Sequence[str],
        names: TopicNames,
        settings: Settings,
        processor: Processor,
        on_failure: Callable[[Exception], None],
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
    ) -> None:
        self._service, self._names = service, names
        self._topics = [names.on_broker(topic) for topic in topics]
        self._on_failure, self._unit, self._start_at = on_failure, unit_of_work, start_at
        self._consumer = AIOKafkaConsumer(
            **group_settings(settings, service),
            group_id=settings.topic_prefix + service,
            group_instance_id=f"{service}-{settings.instance}",
            auto_offset_reset="earliest",
        )
        self.poller = RecordPoller(self._consumer, processor, settings, names)
        self._in_batch = asyncio.Lock()
        self._assignments = 0
        self._uncommitted: dict[TopicPartition, int] = {}
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._commit_at = 0.0

    async def start(self) -> None:
        """Join the group and run; returns once partitions are assigned."""
        self._consumer.subscribe(self._topics, listener=self)
        await self._consumer.start()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish the current batch, commit it, and leave the group."""
        self._stopping.set()
        if self._task:
            await asyncio.wait([self._task])
            with suppress(TimeoutError):
                await asyncio.wait_for(self._commit_now(), CLOSE_TIMEOUT_S)
        await stop_consumer(self._consumer, CLOSE_TIMEOUT_S)

    def assigned(self, topic: str) -> Collection[int]:
        """The partitions of a topic that are assigned to this process now."""
        return {tp.partition for tp in self._consumer.assignment() if self._names.of(tp.topic) == topic}

    async def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                polled = await self.poller.poll()
                assignments = self._assignments
                async with self._in_batch:
                    if polled and assignments == self._assignments:
                        await self._process_batch(polled)
                    self._commit_soon()
        except Exception as e:
            self._on_failure(e)

    async def _process_batch(self, polled: Mapping[TopicPartition, Sequence[Any]]) -> None:
        progress = await self.poller.handle(polled)
        for (topic, partition), offset in progress.next_offsets.items():
            self._uncommitted[TopicPartition(self._names.on_broker(topic), partition)] = offset
        if progress.failure is not None:
            raise progress.failure

    def _commit_soon(self) -> None:
        """Commit in the background, one commit at a time, what is handled by then.

        At 100 records/s each batch is one record: a commit for each would cost the broker as much as the records.
        """
        idle = self._committing is None or self._committing.done()
        if self._uncommitted and idle and time.monotonic() >= self._commit_at:
            self._commit_at = time.monotonic() + COMMIT_EVERY_S
            self._committing = asyncio.create_task(self._commit())

    async def _commit_now(self) -> None:
        if self._committing:
            await asyncio.wait([self._committing])
        await self._commit()

    async def _commit(self) -> None:
        """Commit what is handled. A failed commit is retried with the next, or left to the next owner."""
        assigned = self._consumer.assignment()
        offsets = {tp: offset for tp, offset in self._uncommitted.items() if tp in assigned}
        if not offsets:
            return
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._consumer.commit(offsets)
        except (KafkaError, TimeoutError) as e:
            metrics.COMMITS.labels(self._service, "failed").inc()
            log.warning("commit failed", extra={"reason": repr(e)})
            return
        metrics.COMMITS.labels(self._service, "done").inc()
        for tp, offset in offsets.items():
            if self._uncommitted.get(tp) == offset:
                del self._uncommitted[tp]

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Let the current batch finish and commit, then release the partitions."""
        async with self._in_batch:
            await self._commit_now()
            self._assignments += 1
            self._uncommitted.clear()
            self.poller.release_partitions()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Continue at the offset that the state requires; nothing is fetched before that is known."""
        self._consumer.pause(*assigned)
        try:
            async with self._in_batch:
                await self._seek(assigned)
        except Exception as e:  # aiokafka would only log it
            self._on_failure(e)
            return
        log.info("partitions assigned", extra={"partitions": sorted(f"{tp.topic}/{tp.partition}" for tp in assigned)})
        self._consumer.resume(*assigned)

    async def _seek(self, assigned: set[TopicPartition]) -> None:
        stored = await self._unit.offsets() if self._unit else {}
        starts: dict[TopicPartition, int] = {}
        for tp in assigned:
            topic = self._names.of(tp.topic)
            at = await self._start_at(topic, tp.partition) if self._start_at else None
            if at is None and self._unit:
                at = stored.get((topic, tp.partition), 0)
            if at is not None:
                starts[tp] = at
        if starts:
            await self._check_ends(starts)
        for tp, offset in starts.items():
            self._consumer.seek(tp, offset)

    async def _check_ends(self, starts: dict[TopicPartition, int]) -> None:
        ends = await self._consumer.end_offsets(list(starts))
        for tp, offset in starts.items():
            if offset > ends[tp]:
                raise Misconfigured(
                    f"the state of {self._service} continues at offset {offset} of {tp.topic}/{tp.partition}, which "
                    f"ends at {ends[tp]}: the state belongs to another cluster; restore that log or remove the state"
                )
