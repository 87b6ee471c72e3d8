"""The consumer of one keyed group on Faust: its table, its agent, its batches and its progress."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from faust.types import TP

from everloop_schemas.envelope import FOREVER, Topic
from everloop_shared import metrics
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.faust.app import FaustSettings
from everloop_shared.messaging.faust.buffer import RecordBuffer
from everloop_shared.messaging.faust.delivery import BatchDelivery
from everloop_shared.messaging.keyed.disk import DiskStorage
from everloop_shared.messaging.keyed.expiry import StreamTime, sweep
from everloop_shared.messaging.keyed.groups import KeyedGroup
from everloop_shared.messaging.keyed.state import Change, LogPosition
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.processor import Processor
from everloop_shared.messaging.routes import Engine, Partition, Record

log = logging.getLogger(__name__)
STALLED_AFTER_S = 30.0
"""A partition with lag that has not moved for so long is reported as stalled."""
UNCOMMITTED_AFTER_S = 10.0
QUERY_AGAIN_AFTER_S, QUERY_TIMEOUT_S = 10.0, 2.0
PROBE_AFTER_S = 2.0
UNKNOWN_END = 1 << 62
STORED_ONLY_GATHER_S, OTHERS_FOLLOW_S = 0.05, 10.0
"""How long records that are only stored wait for more of them; not at all so soon after one of another topic."""
MANY = 100_000
"""With so many records of a changelog left to read, the disk is prepared for them."""


class KeyedGroupConsumer:
    """One group on Faust: its table, its agent and its batches."""

    def __init__(
        self,
        service: str,
        group: KeyedGroup,
        app: Any,
        delivery: BatchDelivery,
        engine: Engine,
        settings: FaustSettings,
        ledger: CrashLedger,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._group, self._app, self._delivery, self._engine = group, app, delivery, engine
        self._settings, self._fail = settings, fail
        self._prefix = settings.topic_prefix
        name = f"{service}.{group.store.name}.changelog"
        self._changelog = Topic(name, service, "loop/subject", FOREVER, compacted=True)
        self.topics = [*[r.topic for r in group.routes], self._changelog]
        self._topics = [r.topic.name for r in group.routes]
        self._processor = Processor(service, group.routes, engine, group.store, ledger)
        self._buffer = RecordBuffer(settings.batch_size)
        self._time = StreamTime(self._topics)
        self._in_batch = asyncio.Lock()
        self._query_at = 0.0
        self._stored_only = {self._prefix + topic for topic in group.stored_only}
        self._others_at = 0.0
        self._moved: dict[Partition, tuple[int, float]] = {}
        self._stopping = False
        self._table = app.Table(
            group.store.name,
            partitions=settings.partitions,
            key_type=bytes,
            value_type=bytes,
            changelog_topic=app.topic(
                self._prefix + name,
                key_type=bytes,
                value_type=bytes,
                internal=True,
                acks=False,  # with acks Faust records every gap left by compaction, which takes minutes at each start
                partitions=settings.partitions,
                compacting=True,
            ),
            on_recover=self._on_recover,
        )
        folder = settings.folder(service) / "state" / settings.instance / group.store.name
        self._disk = DiskStorage(folder, group.store.layout)
        metrics.STATE_BUFFERS.labels(service, group.store.name).set_function(lambda: self._disk.buffered_bytes)
        self._owned: set[int] = set()
        self._probe_at = 0.0
        source = app.topic(*[self._prefix + t for t in self._topics], key_type=bytes, value_type=bytes)
        app.agent(source, name=f"{service}.{group.store.name}")(self._run)

    def attach(self) -> None:
        """Open the state on disk, attach it to the group's store, and the buffer to the topics.

        Faust's own table stays empty: it only gives its recovery our offsets.
        """
        self._disk.open()
        self._group.store.attach(self._engine, self._disk, self._append)
        self._group.store.set_owned(())
        for topic in self._topics:
            self._delivery.deliver(self._prefix + topic, topic, self._buffer)
        self._delivery.changelogs.add(self._prefix + self._changelog.name, self._restore)
        self._table.data.persisted_offset = self._persisted_offset
        self._table.data.stored_position = self._group.store.position
        self._table.data.forget_partition = self._group.store.forget
        self._table.data.on_recovery_completed = self._own

    def close(self) -> None:
        """Close the state on disk."""
        self._disk.close()

    def failure(self) -> str | None:
        """Why the state on disk cannot be used at present; the process ends where it has to be read again."""
        if self._disk.corrupt:
            self._fail(Unavailable(self._disk.failure or "corrupt"))
        elif self._disk.failure and time.monotonic() > self._probe_at:
            self._probe_at = time.monotonic() + PROBE_AFTER_S
            with contextlib.suppress(Unavailable):
                self._disk.probe()
        return self._disk.failure

    def _persisted_offset(self, tp: TP) -> int | None:
        position = self._group.store.position(tp.partition)
        return position.offset if position else None

    def _restore(self, partition: int, records: Sequence[Any], left: int) -> None:
        """Pass what was read of the changelog to the store, which tells old values from new ones."""
        latest_ms = max(record.timestamp for record in records)
        read_to = {partition: LogPosition(records[-1].offset, latest_ms, int(time.time() * 1000))}
        try:
            if left > MANY:
                self._disk.load(True)
            self._group.store.restore([(partition, r.key, r.value) for r in records], read_to, left)
        except Exception as e:  # which Faust would only log
            self._fail(e)
            raise

    async def _own(self, active: set[TP], standby: set[TP]) -> None:
        self._owned = {tp.partition for tp in active}

    async def _append(self, changes: Sequence[Change]) -> Mapping[int, int]:
        """Write changes to the changelog, in order per partition; returns once the broker has acknowledged them."""
        return await self._engine.append(self._changelog, changes)

    async def _on_recover(self) -> None:
        self._buffer.open()
        self._disk.load(False)
        self._group.store.finish_restore(self._owned)
        self._group.store.set_owned(self._owned)
        self._time = StreamTime(self._topics)
        self._moved.clear()
        if self._group.on_restored:
            self._group.on_restored()

    async def _run(self, stream: Any) -> None:
        """Handle what is delivered; the agent's stream stays empty, and makes Faust subscribe to the topics."""
        try:
            while not self._stopping:
                await self._buffer.wait()
                if time.monotonic() > self._others_at + OTHERS_FOLLOW_S:
                    await self._buffer.gather(self._stored_only, STORED_ONLY_GATHER_S)
                async with self._in_batch:
                    await self._process_batch()
        except asyncio.CancelledError:
            raise
        except Exception as e:
            self._fail(e)

    async def _process_batch(self) -> None:
        taken = await self._take_in_order(self._buffer.take())
        if not taken or self._stopping:
            return
        if any(tp.topic not in self._stored_only for tp in taken):
            self._others_at = time.monotonic()
        progress = await self._processor.process({self._partition(tp): records for tp, records in taken.items()})
        for tp, records in taken.items():
            partition = self._partition(tp)
            upto = progress.next_offsets.get(partition, -1)
            done = [record.at for record in records if record.at.offset < upto]
            for at in done:
                self._time.advance(at)
            if done:
                self._delivery.handled(tp, done[-1].offset + 1)
            self._buffer.done(tp, len(done), progress.backoff_s.get(partition, 0.0))
        if progress.failure:
            raise progress.failure

    async def _take_in_order(self, taken: dict[TP, list[Record]]) -> dict[TP, list[Record]]:
        """The records that may be handled now: an interrupted batch continues in the order in which it began."""
        allowed = {}
        for tp, records in taken.items():
            next_topic = self._next_in_order(tp.partition, self._partition(tp)[0], records[0].at.offset)
            if next_topic is None:
                allowed[tp] = records
            elif next_topic[0] == self._partition(tp)[0]:
                allowed[tp] = [r for r in records if r.at.offset <= next_topic[1]]
            else:
                self._buffer.put_aside(tp)
                await self._skip_if_deleted(*next_topic, tp.partition)
        return allowed

    def _next_in_order(self, partition: int, topic: str, offset: int) -> tuple[str, int] | None:
        def position(other: str) -> int:
            return offset if other == topic else self._position(other, partition)

        return self._group.store.batch_order.next_topic(partition, position)

    async def _skip_if_deleted(self, topic: str, upto: int, partition: int) -> None:
        """Do not wait for records that have been deleted from the log."""
        if time.monotonic() < self._query_at:
            return
        self._query_at = time.monotonic() + QUERY_AGAIN_AFTER_S
        tp = TP(self._prefix + topic, partition)
        with contextlib.suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                first = (await self._app.consumer.earliest_offsets(tp))[tp]
                end = (await self._app.consumer.highwaters(tp))[tp]
                if first > upto or end <= upto:
                    log.warning("the rest of a batch is no longer on the log", extra={"topic": topic, "offset": upto})
                    self._group.store.batch_order.skip_next(partition)

    def _partition(self, tp: TP) -> Partition:
        return tp.topic.removeprefix(self._prefix), tp.partition

    async def release_partitions(self) -> None:
        """Partitions are revoked: finish the current batch; the rest is consumed again from the commit."""
        try:
            async with asyncio.timeout(self._settings.session_timeout_s / 2):
                async with self._in_batch:
                    self._buffer.close()
        except TimeoutError:
            self._fail(Unavailable("the partitions are revoked before the current batch is finished"))
        finally:
            self._group.store.abandon()

    async def drain(self) -> None:
        """Finish the current batch and begin no other."""
        self._stopping = True
        await self.release_partitions()

    async def sweep(self) -> None:
        """Let entries expire in each of our partitions."""
        if self._group.sweep is None:
            return
        partitions = {tp.partition for tp in self._sources()}
        for partition in sorted(partitions):
            ends = {topic: self._end(topic, partition) for topic in self._topics}
            for topic in self._topics:
                self._position(topic, partition)
            now_ms = self._time.now(partition, ends, int(time.time() * 1000))
            await sweep(self._group, partition, now_ms)

    def _sources(self) -> list[TP]:
        names = {self._prefix + t for t in self._topics}
        return [tp for tp in self._app.consumer.assignment() if tp.topic in names]

    def _position(self, topic: str, partition: int) -> int:
        """The next offset to handle: after the last handled one, else the committed one."""
        if not self._time.position(topic, partition):
            committed = self._app.consumer._committed_offset[TP(self._prefix + topic, partition)]
            self._time.start_at(topic, partition, committed or 0)
        return self._time.position(topic, partition)

    def _end(self, topic: str, partition: int) -> int:
        """The last known end of a partition; `UNKNOWN_END` where it is not known yet."""
        end: int | None = self._app.consumer.highwater(TP(self._prefix + topic, partition))
        return UNKNOWN_END if end is None else end

    def stalled(self) -> str | None:
        """Which partition has lag and has not moved for 30 s, or is committed more than 10 s late; else None.

        For use while the broker answers. A partition that backs off is not stalled.
        """
        now = time.monotonic()
        for tp in self._sources():
            topic, partition = self._partition(tp)
            end, position = self._end(topic, partition), self._position(topic, partition)
            committed = self._app.consumer._committed_offset[tp] or 0
            last_moved, since = self._moved.get((topic, partition), (-1, now))
            idle = position >= end and committed >= position
            if idle or self._buffer.waits(tp) or min(position, committed) != last_moved:
                self._moved[topic, partition] = (min(position, committed), now)
            elif position > committed and now - since > UNCOMMITTED_AFTER_S + self._settings.commit_interval_s:
                return f"{topic}/{partition} is handled up to {position}, but committed only up to {committed}"
            elif position < end < UNKNOWN_END and now - since > STALLED_AFTER_S:
                return f"{topic}/{partition} stands at {position} of {end} for {now - since:.0f} s"
        return None

    def reset_stall_clocks(self) -> None:
        """Do not count the time without a broker as a stall."""
        self._moved.clear()
