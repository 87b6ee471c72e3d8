"""When entries of a keyed state may expire: stream time, and a consumer that sweeps by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from everloop_schemas.envelope import Event
from everloop_shared.messaging.keyed.groups import KeyedFactory, KeyedGroup
from everloop_shared.messaging.routes import Consumer, Engine, EngineFactory, Handler, Position, Publisher

GRACE_MS = 2_000
"""A topic that is read to its end counts as read up to so long ago, because its end may be known a moment late."""


class StreamTime:
    """How far each topic partition has been read, in offsets and in the broker's time."""

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = tuple(topics)
        self._read: dict[tuple[str, int], tuple[int, int]] = {}

    def advance(self, at: Position) -> None:
        """Note that the record at this position is handled."""
        self._read[at.topic, at.partition] = (at.offset + 1, at.timestamp)

    def start_at(self, topic: str, partition: int, offset: int) -> None:
        """Note that reading starts or continues at this offset."""
        self._read[topic, partition] = (offset, 0)

    def position(self, topic: str, partition: int) -> int:
        """The next offset to read."""
        return self._read.get((topic, partition), (0, 0))[0]

    def now(self, partition: int, ends: Mapping[str, int], wall_ms: int, grace_ms: int = GRACE_MS) -> int:
        """The earliest time to which a topic of this partition has been read, in ms; 0 before anything was read."""
        times = []
        for topic in self._topics:
            offset, timestamp = self._read.get((topic, partition), (0, 0))
            times.append(wall_ms - grace_ms if offset >= ends[topic] else timestamp)
        return min(times)


async def sweep(group: KeyedGroup, partition: int, now_ms: int) -> None:
    """Let entries of one partition expire, in a unit of work of its own."""
    assert group.sweep is not None, "only groups that expire are swept"
    async with group.store as unit:
        await unit.record(list(await group.sweep(Position("", partition, -1, now_ms))), {})


def keyed_on(connect: EngineFactory, partitions: int, interval_s: float = 0.2, grace_ms: int = 0) -> KeyedFactory:
    """Keyed groups on plain engines: state in memory only, for tests and the memory bus."""

    def build(service: str, groups: Sequence[KeyedGroup], engine: Engine) -> Sequence[Consumer]:
        return [_SweptConsumer(group, engine, connect(service), partitions, interval_s, grace_ms) for group in groups]

    return build


class _SweptConsumer:
    """A plain consumer with a keyed store as its unit of work, and a task that sweeps it."""

    def __init__(
        self,
        group: KeyedGroup,
        publisher: Publisher,
        engine: Engine,
        partitions: int,
        interval_s: float,
        grace_ms: int,
    ) -> None:
        self._group, self._log = group, engine
        self._partitions, self._interval_s, self._grace_ms = partitions, interval_s, grace_ms
        self._time = StreamTime(r.topic.name for r in group.routes)
        group.store.attach(publisher)
        routes = [replace(route, handle=self._timed(route.handle)) for route in group.routes]
        self._consumer = engine.consumer(routes, unit_of_work=group.store)
        self._failure: asyncio.Future[BaseException] | None = None
        self._task: asyncio.Task[None] | None = None

    def _timed(self, handle: Handler) -> Handler:
        async def handle_and_advance(event: Event, at: Position) -> list[Event]:
            caused = list(await handle(event, at))
            self._time.advance(at)
            return caused

        return handle_and_advance

    async def start(self) -> None:
        if self._group.on_restored:
            self._group.on_restored()
        self._failure = asyncio.get_running_loop().create_future()
        await self._consumer.start()
        if self._group.sweep:
            self._task = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._consumer.stop()

    async def failed(self) -> BaseException:
        assert self._failure is not None, "start first"
        inner = asyncio.ensure_future(self._consumer.failed())
        try:
            await asyncio.wait([inner, self._failure], return_when=asyncio.FIRST_COMPLETED)
            return inner.result() if inner.done() else self._failure.result()
        finally:
            inner.cancel()

    async def _sweep(self) -> None:
        try:
            while True:
                await asyncio.sleep(self._interval_s)
                for partition in range(self._partitions):
                    ends = {r.topic.name: await self._log.end_offset(r.topic, partition) for r in self._group.routes}
                    now_ms = self._time.now(partition, ends, int(time.time() * 1000), self._grace_ms)
                    await sweep(self._group, partition, now_ms)
        except Exception as e:
            if self._failure and not self._failure.done():
                self._failure.set_result(e)

    def ready(self) -> str | None:
        return self._consumer.ready()

    def live(self) -> str | None:
        return self._consumer.live()
