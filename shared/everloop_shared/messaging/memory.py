"""The memory engine: the same guarantees as the others inside one process, for tests and trials without Kafka."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

from everloop_schemas.catalogue import decode
from everloop_schemas.envelope import Event, Topic
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.processor import Processor
from everloop_shared.messaging.processing.records import decode_events
from everloop_shared.messaging.routes import (
    CATCH_UP_POLL_S,
    EVENT_HEADERS,
    EncodedEvent,
    Headers,
    KeyedRecord,
    Partition,
    Position,
    Record,
    Routes,
    StartAt,
    UnitOfWork,
    checked,
    encode,
)

if TYPE_CHECKING:
    from everloop_shared.signing.trust import TrustStore

BATCH_RECORDS = 500
IDLE_WAIT_S = 0.02


class MemoryBroker:
    """Topics as lists of records, and committed offsets per group. Its engines admit what `trust` admits."""

    def __init__(self, partitions: int = 4, trust: TrustStore | None = None) -> None:
        self.partitions, self.trust = partitions, trust
        self._logs: dict[Partition, list[Record]] = defaultdict(list)
        self.committed: dict[tuple[str, str, int], int] = {}
        self.ledgers: dict[str, CrashLedger] = defaultdict(CrashLedger)
        self._grown = asyncio.Condition()

    def partition_for(self, key: bytes) -> int:
        """The partition of a key."""
        return crc32(key) % self.partitions

    def log(self, topic: str, partition: int) -> list[Record]:
        """One partition's records, oldest first."""
        return self._logs[topic, partition]

    def events(self, topic: Topic) -> list[Event]:
        """All events on a topic, partition by partition."""
        return [decode(topic.name, r.value) for p in range(self.partitions) for r in self.log(topic.name, p) if r.value]

    async def append(self, topic: str, key: bytes, value: bytes | None, headers: Headers = ()) -> None:
        """Append one record and wake the consumers."""
        partition = self.partition_for(key)
        offset = len(self._logs[topic, partition])
        at = Position(topic, partition, offset, int(time.time() * 1000), len(value or b""))
        self.store(Record(at, key, value, headers))
        async with self._grown:
            self._grown.notify_all()

    def store(self, record: Record) -> None:
        """Append a record to its partition. Subclasses limit and count records here, and raise to refuse one."""
        self._logs[record.at.topic, record.at.partition].append(record)

    async def wait(self, timeout_s: float) -> None:
        """Wait until something is appended, or the timeout."""
        async with self._grown:
            try:
                await asyncio.wait_for(self._grown.wait(), timeout_s)
            except TimeoutError:
                return

    def engine(self, service: str) -> MemoryEngine:
        """An engine of this broker; an `EngineFactory` like those of the real ones."""
        return MemoryEngine(self, service)


class MemoryEngine:
    """Implements `routes.Engine` on a `MemoryBroker`, whose logs can always be written and read."""

    def __init__(self, broker: MemoryBroker, service: str) -> None:
        self.broker, self.service = broker, service
        self.consuming = False

    def consumer(
        self,
        routes: Routes,
        *,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
    ) -> MemoryConsumer:
        """The consumer of these routes, not started."""
        return MemoryConsumer(self, checked(routes), unit_of_work, start_at)

    def ready(self) -> str | None:
        """None once the consumer is started."""
        return None if self.consuming else "not started"

    async def publish(self, events: Sequence[Event]) -> None:
        """Append at once."""
        await self.publish_encoded([encode(event) for event in events])

    async def publish_encoded(self, events: Sequence[EncodedEvent]) -> None:
        """Append at once."""
        for event in events:
            await self.broker.append(*event, EVENT_HEADERS)

    async def append(self, topic: Topic, records: Sequence[KeyedRecord]) -> Mapping[int, int]:
        """Append at once."""
        last = {}
        for partition, key, value in records:
            at = Position(topic.name, partition, len(self.broker.log(topic.name, partition)), size=len(value or b""))
            self.broker.store(Record(at, key, value))
            last[partition] = at.offset
        return last

    async def read(self, topic: Topic, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """Records with start <= offset < stop."""
        return decode_events(await self.read_records(topic, partition, start, stop), self.broker.trust)

    async def read_records(self, topic: Topic, partition: int, start: int, stop: int) -> list[Record]:
        """Records with start <= offset < stop, as they are."""
        return self.broker.log(topic.name, partition)[start:stop]

    async def end_offset(self, topic: Topic, partition: int) -> int:
        """The length of the log."""
        return len(self.broker.log(topic.name, partition))

    async def begin_offset(self, topic: Topic, partition: int) -> int:
        """The first offset: nothing is deleted."""
        return 0

    def partition_for(self, topic: Topic, key: bytes) -> int:
        """The broker's choice."""
        return self.broker.partition_for(key)


class MemoryConsumer:
    """Runs a table of routes over a `MemoryBroker`; one replica per group."""

    def __init__(
        self,
        engine: MemoryEngine,
        routes: Routes,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
    ) -> None:
        self._engine, self.broker, self.service = engine, engine.broker, engine.service
        self._unit, self._start_at = unit_of_work, start_at
        self._group = [r for r in routes if not r.broadcast]
        self._broadcast = [r for r in routes if r.broadcast]
        ledgers, trust = self.broker.ledgers, self.broker.trust
        self._processor = Processor(self.service, self._group, engine, unit_of_work, ledgers[self.service], trust)
        ledger = ledgers[f"{self.service} broadcast"]
        self._followers = Processor(self.service, self._broadcast, engine, ledger=ledger, trust=trust)
        self._next: dict[Partition, int] = {}
        self._paused: dict[Partition, float] = {}
        self._stopping = asyncio.Event()
        self._failure: asyncio.Future[BaseException] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Relay the outbox, read the broadcasts, find the offsets to continue at, and run."""
        self._failure = asyncio.get_running_loop().create_future()
        if self._unit:
            await self._unit.relay(self._engine)
        partitions = range(self.broker.partitions)
        for route in self._broadcast:
            for p in partitions:
                start = await route.start_at(route.name, p) if route.start_at else None
                self._next[route.name, p] = start or 0
        while await self._process_batch([r.name for r in self._broadcast], self._followers):
            pass
        stored = await self._unit.offsets() if self._unit else {}
        for name in [r.name for r in self._group]:
            for p in partitions:
                at = await self._start_at(name, p) if self._start_at else None
                committed = 0 if self._unit else self.broker.committed.get((self.service, name, p), 0)
                known = stored.get((name, p), committed)
                self._next[name, p] = known if at is None else at
        self._task = asyncio.create_task(self._run())
        self._engine.consuming = True

    async def stop(self) -> None:
        """Finish the current batches and leave."""
        self._stopping.set()
        if self._task:
            await asyncio.wait([self._task])
            self._task = None
        self._engine.consuming = False

    async def failed(self) -> BaseException:
        """Wait for a failure that ends the engine."""
        assert self._failure is not None, "start first"
        return await asyncio.shield(self._failure)

    def ready(self) -> str | None:
        """None once started."""
        return self._engine.ready()

    def live(self) -> str | None:
        """None unless the engine has failed."""
        return "failed" if self._failure and self._failure.done() else None

    def assigned(self, topic: Topic) -> Collection[int]:
        """All partitions of a group route, once started."""
        consumed = self._engine.consuming and topic.name in [r.name for r in self._group]
        return range(self.broker.partitions) if consumed else ()

    async def caught_up(self, within_s: float) -> bool:
        """Wait until the present lengths of the logs are reached."""
        ends = {partition: len(self.broker.log(*partition)) for partition in self._next}
        try:
            async with asyncio.timeout(within_s):
                while any(self._next[partition] < end for partition, end in ends.items()):
                    await asyncio.sleep(CATCH_UP_POLL_S)
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        group, broadcast = [r.name for r in self._group], [r.name for r in self._broadcast]
        try:
            while not self._stopping.is_set():
                moved = await self._process_batch(broadcast, self._followers)
                moved += await self._process_batch(group, self._processor)
                await asyncio.sleep(0)  # handlers that never wait must not keep the event loop from other tasks
                if not moved:
                    await self.broker.wait(IDLE_WAIT_S)
        except Exception as e:
            assert self._failure is not None, "set at start"
            self._failure.set_result(e)

    async def _process_batch(self, topics: list[str], processor: Processor) -> int:
        now = time.monotonic()
        batches: dict[Partition, Sequence[Record]] = {}
        for partition, start in self._next.items():
            if partition[0] in topics and self._paused.get(partition, 0) <= now:
                if records := self.broker.log(*partition)[start : start + BATCH_RECORDS]:
                    batches[partition] = records
        if not batches:
            return 0
        progress = await processor.process(batches)
        self._next |= progress.next_offsets
        self._paused |= {p: time.monotonic() + s for p, s in progress.backoff_s.items()}
        if processor is self._processor:
            for (topic, p), offset in progress.next_offsets.items():
                self.broker.committed[self.service, topic, p] = offset
        if progress.failure is not None:
            raise progress.failure
        return len(progress.next_offsets)
