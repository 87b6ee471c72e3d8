"""Ingest on a real broker, with topics of its user's beside those of Everloop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from aiokafka import AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete  # type: ignore[import-untyped]
from tests.builders.loops import loop_spec, loop_state
from tests.builders.running import http_client, run_until_exit

from everloop_ingest.adapters.sources import kafka_sources
from everloop_ingest.app import build
from everloop_ingest.settings import IngestSettings
from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import Engine, EngineFactory, connected

E = TypeVar("E", bound=Event)
T = TypeVar("T")
SCHEMA = {"price": {"type": "number"}}
PARTITIONS = 2


@dataclass
class SourcedIngest:
    """A broker with the topics of one installation and of its user; ingest runs within `running`."""

    bootstrap: str
    folder: Path
    registry: Engine
    producer: Any
    admin: Any
    prefix: str
    settings: dict[str, Any] = field(default_factory=dict)
    _sequence: int = 0

    def topic(self, name: str) -> str:
        """The name of a topic of the user's."""
        return f"shop-{self.prefix}{name}"

    async def create(self, name: str, partitions: int = 1) -> str:
        """Create a topic of the user's; returns its name."""
        await self.admin.create_topics([NewTopic(self.topic(name), partitions, 1)])
        return self.topic(name)

    async def delete(self, name: str) -> None:
        """Delete a topic of the user's."""
        await self.admin.delete_topics([self.topic(name)])
        await self.until(lambda: self._is_gone(self.topic(name)))

    async def _is_gone(self, topic: str) -> bool:
        return topic not in await self.admin.list_topics()

    async def delete_records(self, name: str, before: int) -> None:
        """Delete the records of a topic before an offset, as retention does."""
        await self.admin.delete_records({TopicPartition(self.topic(name), 0): RecordsToDelete(before)})

    async def send(self, name: str, *values: Any, key: bytes | None = None, partition: int | None = None) -> None:
        """Write records to a topic of the user's; bytes as they are, anything else as JSON."""
        for value in values:
            raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
            own_key = b"deleted" if raw is None else key
            await self.producer.send_and_wait(self.topic(name), raw, key=own_key, partition=partition)

    async def apply(self, *sources: dict[str, Any], loop: str = "market", **changes: Any) -> LoopState:
        """Publish a state of the loop with these sources, as the registry does."""
        self._sequence += 1
        given = {"schema": SCHEMA, **changes.pop("spec", {})}
        spec = loop_spec(loop=loop, sources=list(sources), **given)
        state = loop_state(spec, revision=self._sequence, sequence=self._sequence, **changes)
        await self.registry.publish([state])
        return state

    @asynccontextmanager
    async def running(
        self, wrap: Callable[[EngineFactory], EngineFactory] = lambda f: f, **settings: Any
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Run ingest; a client of it."""
        own = IngestSettings(
            data=self.folder,
            port=0,
            kafka_bootstrap=self.bootstrap,
            topic_prefix=self.prefix,
            partitions=PARTITIONS,
            **self.settings | settings,
        )
        service = build(own, wrap(kafka_factory(own)), read_sources=kafka_sources(own))
        async with run_until_exit(service), http_client(service) as client:
            yield client

    async def published(self, kind: type[E]) -> list[E]:
        """All events of a kind, partition by partition."""
        found: list[E] = []
        for partition in range(PARTITIONS):
            end = await self.registry.end_offset(kind.topic, partition)
            found += [e for _, e in await self.registry.read(kind.topic, partition, 0, end) if isinstance(e, kind)]
        return found

    async def events(self, count: int, within_s: float = 20.0) -> list[EventReceived]:
        """The observations once there are so many."""
        await self.until(lambda: self._has(EventReceived, count), within_s)
        return await self.published(EventReceived)

    async def labels(self, count: int) -> list[LabelReceived]:
        """The labels once there are so many."""
        await self.until(lambda: self._has(LabelReceived, count))
        return await self.published(LabelReceived)

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        """The dead letters once there are so many."""
        await self.until(lambda: self._has(DEAD_LETTERS["ingest"], count))
        return await self.published(DEAD_LETTERS["ingest"])

    async def _has(self, kind: type[Event], count: int) -> bool:
        ends = [await self.registry.end_offset(kind.topic, p) for p in range(PARTITIONS)]
        return sum(ends) >= count

    async def until(self, condition: Callable[[], Awaitable[T]], within_s: float = 20.0) -> T:
        """The value of a condition once it is true; fails at the deadline."""
        deadline = time.monotonic() + within_s
        while not (value := await condition()):
            assert time.monotonic() < deadline, "the condition did not become true in time"
            await asyncio.sleep(0.05)
        return value


def prices(events: Sequence[EventReceived]) -> list[Any]:
    """The price of each observation, in rising order."""
    found: list[Any] = [event.data.fields["price"] for event in events]
    return sorted(found)


async def source_status(client: httpx.AsyncClient, source: str, loop: str = "market") -> dict[str, Any]:
    """What the endpoint says of a source; empty where it does not name it."""
    answer = await client.get(f"/v1/loops/{loop}/sources")
    found = answer.json()["sources"] if answer.status_code == 200 else []
    return next((status for status in found if status["source"] == source), {})


@asynccontextmanager
async def sourced_ingest(bootstrap: str, folder: Path) -> AsyncIterator[SourcedIngest]:
    """The topics of an installation, and the clients of a test."""
    prefix = f"sources-{uuid4().hex[:8]}."
    settings = IngestSettings(
        data=folder, kafka_bootstrap=bootstrap, topic_prefix=prefix, partitions=PARTITIONS, instance="test"
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    async with connected(kafka_factory(settings)("registry")) as registry:
        await producer.start()
        await admin.start()
        try:
            yield SourcedIngest(bootstrap, folder, registry, producer, admin, prefix)
        finally:
            await producer.stop()
            await admin.close()


StartSources = Callable[[], AbstractAsyncContextManager[SourcedIngest]]
