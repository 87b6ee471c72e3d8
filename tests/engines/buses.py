"""The same bus three times over: what the behaviour suite needs of an engine's surroundings, and events to send."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from tests.builders import events

from everloop_schemas.envelope import Event, Topic
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_shared.messaging.faust.consumer import FaustConsumer, FaustSettings
from everloop_shared.messaging.kafka.consumer import KafkaConsumer
from everloop_shared.messaging.kafka.engine import KafkaEngine
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.keyed.groups import KeyedGroup
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.memory import MemoryBroker, MemoryConsumer, MemoryEngine
from everloop_shared.messaging.routes import (
    Consumer,
    Engine,
    Record,
    Route,
    RouteConsumer,
    Routes,
    StartAt,
    UnitOfWork,
    connected,
)
from everloop_shared.settings import Settings

SERVICE = "feature"
PARTITIONS = 4
NOW = datetime(2026, 1, 1, tzinfo=UTC)
_prefixes = count()
C = TypeVar("C", bound=Consumer)
BUSES = ["memory", pytest.param("kafka", marks=pytest.mark.kafka)]
"""The engines that take any route; Faust runs keyed groups only."""


def received(name: str, entity: str = "a", traceparent: str | None = None) -> EventReceived:
    """An input: its id is its name."""
    return events.observation(name, {"x": 1.0}, entity, loop="l", revision=0, time=NOW, traceparent=traceparent)


def computed(cause: Event) -> FeaturesComputed:
    """The output for an input; its id follows from it."""
    about = {"id": f"of-{cause.id}", "loop": cause.loop, "revision": 0, "time": NOW}
    return events.features_computed(cause.id, {}, cause.subject, **about)


async def until(condition: Callable[[], Awaitable[bool] | bool], within_s: float = 20.0) -> None:
    """Return as soon as the condition holds; an assertion fails when it does not in time."""
    deadline = time.monotonic() + within_s
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


class Bus(Protocol):
    """A broker with engines on it. `send` appends raw bytes, `sent` reads a whole topic."""

    def engine(self) -> Engine: ...
    def consumer(
        self,
        routes: Routes,
        *,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
    ) -> RouteConsumer: ...
    async def send(self, topic: Topic, key: bytes, value: bytes | None) -> None: ...
    async def sent(self, topic: Topic) -> list[dict[str, Any]]: ...
    async def sent_headers(self, topic: Topic) -> list[dict[str, bytes]]:
        """The headers of every record on a topic."""

    async def committed(self, topic: Topic) -> int:
        """The sum of the service's committed offsets over the partitions."""


@asynccontextmanager
async def running(consumer: C) -> AsyncIterator[C]:
    """Start it, and stop it whatever happens."""
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def send_all(bus: Bus, events: Sequence[Event]) -> None:
    """Put inputs on the bus, in order."""
    for event in events:
        await bus.send(event.topic, event.key(), event.encode())


class MemoryBus:
    """Everything in this process."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(PARTITIONS)

    def engine(self) -> MemoryEngine:
        return self.broker.engine(SERVICE)

    def consumer(
        self,
        routes: Routes,
        *,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
    ) -> MemoryConsumer:
        return self.engine().consumer(routes, unit_of_work=unit_of_work, start_at=start_at)

    async def send(self, topic: Topic, key: bytes, value: bytes | None) -> None:
        await self.broker.append(topic.name, key, value)

    async def sent(self, topic: Topic) -> list[dict[str, Any]]:
        return [json.loads(r.value) for r in self._records(topic) if r.value]

    async def sent_headers(self, topic: Topic) -> list[dict[str, bytes]]:
        return [dict(r.headers) for r in self._records(topic)]

    def _records(self, topic: Topic) -> list[Record]:
        return [r for p in range(PARTITIONS) for r in self.broker.log(topic.name, p)]

    async def committed(self, topic: Topic) -> int:
        return sum(self.broker.committed.get((SERVICE, topic.name, p), 0) for p in range(PARTITIONS))


class KafkaBus:
    """A real broker; a prefix of its own keeps the topics and groups of one test apart from all others."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.settings = Settings(
            data=folder,
            kafka_bootstrap=bootstrap,
            topic_prefix=f"t{next(_prefixes)}.",
            partitions=PARTITIONS,
            instance="one",
        )
        self._producer: Any = None
        self._ensured: set[Topic] = set()

    def engine(self, **changed: Any) -> KafkaEngine:
        return KafkaEngine(SERVICE, self.settings.model_copy(update=changed))

    def consumer(
        self,
        routes: Routes,
        *,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
        **changed: Any,
    ) -> KafkaConsumer:
        return self.engine(**changed).consumer(routes, unit_of_work=unit_of_work, start_at=start_at)

    async def send(self, topic: Topic, key: bytes, value: bytes | None) -> None:
        if topic not in self._ensured:
            await ensure_topics(self.settings, [topic])
            self._ensured.add(topic)
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self.settings.kafka_bootstrap, acks="all", max_request_size=16_000_000
            )
            await self._producer.start()
        await self._producer.send_and_wait(self.name(topic), value, key)

    async def sent(self, topic: Topic) -> list[dict[str, Any]]:
        return [json.loads(r.value) for r in await self._records(topic) if r.value]

    async def sent_headers(self, topic: Topic) -> list[dict[str, bytes]]:
        return [dict(r.headers) for r in await self._records(topic)]

    async def _records(self, topic: Topic) -> list[Any]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            partitions = [TopicPartition(self.name(topic), p) for p in range(PARTITIONS)]
            consumer.assign(partitions)
            ends, records = await consumer.end_offsets(partitions), list[Any]()
            while not all([await consumer.position(tp) >= ends[tp] for tp in partitions]):
                for polled in (await consumer.getmany(timeout_ms=100)).values():
                    records += polled
            return records
        finally:
            await consumer.stop()

    async def committed(self, topic: Topic) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(self.settings.topic_prefix + SERVICE)
            return sum(max(0, at.offset) for tp, at in offsets.items() if tp.topic == self.name(topic))
        finally:
            await admin.close()

    async def close(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    def name(self, topic: Topic) -> str:
        """The topic as it is called on the broker."""
        return self.settings.topic_prefix + topic.name


class FaustWithEngine(FaustConsumer):
    """A Faust consumer that owns the engine it publishes by, so that one call starts both."""

    def __init__(self, routes: Sequence[Route], settings: FaustSettings) -> None:
        engine = KafkaEngine(SERVICE, settings)
        self.broadcasts = engine.consumer([r for r in routes if r.broadcast])
        groups = [KeyedGroup(KeyedStore("kept"), [r for r in routes if not r.broadcast])]
        super().__init__(SERVICE, groups, engine, settings)

    async def start(self) -> None:
        """The engine first."""
        await self.broadcasts.start()
        await super().start()

    async def stop(self) -> None:
        """The engine last."""
        await super().stop()
        await self.broadcasts.stop()


class FaustBus(KafkaBus):
    """A real broker, with keyed state on Faust."""

    def consumer(
        self,
        routes: Routes,
        *,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
        **changed: Any,
    ) -> Any:
        settings = FaustSettings(**self.settings.model_dump() | changed)
        return FaustWithEngine(routes, settings)


@asynccontextmanager
async def running_group(
    group: KeyedGroup, engine: KafkaEngine, settings: FaustSettings
) -> AsyncIterator[FaustConsumer]:
    """A keyed group that runs on Faust, publishing by `engine`."""
    consumer = FaustConsumer(SERVICE, [group], engine, settings)
    async with connected(engine), running(consumer):
        yield consumer


async def has_outputs(bus: Bus, number: int) -> bool:
    """Whether so many different outputs are published."""
    return len({e["id"] for e in await bus.sent(FeaturesComputed.topic)}) >= number
