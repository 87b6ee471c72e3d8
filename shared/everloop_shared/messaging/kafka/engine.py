"""The Kafka engine: publishes and reads history for one service, and builds its consumer, over aiokafka."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence, Set

from everloop_schemas.envelope import Event, Topic
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.kafka.consumer import KafkaConsumer
from everloop_shared.messaging.kafka.follower import HistoryReader
from everloop_shared.messaging.kafka.partitioning import partition_of, partitions_of
from everloop_shared.messaging.kafka.producer import KafkaPublisher
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import (
    EncodedEvent,
    EngineFactory,
    KeyedRecord,
    Position,
    Record,
    Routes,
    StartAt,
    UnitOfWork,
    checked,
    encode,
)
from everloop_shared.settings import Settings
from everloop_shared.signing import signer_of, trust_of

AWAY_AFTER_S = 6.0
"""A broker that has not answered for so long is reported as away."""


def kafka_factory(settings: Settings) -> EngineFactory:
    """Makes engines on the cluster that the settings name; reads its files now, to fail early."""
    client_settings(settings, "check")
    trust_of(settings)
    signer_of(settings)
    return lambda service: KafkaEngine(service, settings)


class KafkaEngine:
    """Implements `routes.Engine` on Apache Kafka. Its consumer opens and closes the connection."""

    def __init__(self, service: str, settings: Settings) -> None:
        self.service, self.settings = service, settings
        self.state: str | None = "not started"
        self._answered = 0.0
        self._publisher: KafkaPublisher | None = None
        self._reader: HistoryReader | None = None
        self._ensured: set[Topic] = set()

    def consumer(
        self,
        routes: Routes,
        *,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
    ) -> KafkaConsumer:
        """The consumer of these routes, not started."""
        return KafkaConsumer(self, checked(routes), unit_of_work, start_at)

    def ready(self) -> str | None:
        """None when the consumer is started and the broker answers."""
        if self.state:
            return self.state
        if (silent_s := time.monotonic() - self._answered) > AWAY_AFTER_S:
            return f"Kafka at {self.settings.kafka_bootstrap} has not answered for {silent_s:.0f} s"
        return self.publisher_failure

    @property
    def publisher_failure(self) -> str | None:
        """Why the last delivery failed, for some seconds."""
        return self._publisher.recent_failure if self._publisher else None

    async def publish(self, events: Sequence[Event]) -> None:
        """Return once the broker has all of them (`acks=all`)."""
        if not events:
            return
        if self._publisher is None:
            raise Unavailable(self.state or "not started")
        await self._ensure_foreign({event.topic for event in events})
        await self._publisher.publish([encode(event) for event in events])

    async def publish_encoded(self, events: Sequence[EncodedEvent]) -> None:
        """Return once the broker has all of them; their topics are this service's own, created at the start."""
        if self._publisher is None:
            raise Unavailable(self.state or "not started")
        await self._publisher.publish(events)

    async def append(self, topic: Topic, records: Sequence[KeyedRecord]) -> Mapping[int, int]:
        """Return once the broker has all of these records, in order within a partition; they share a producer."""
        if self._publisher is None:
            raise Unavailable(self.state or "not started")
        placed = [(topic.name, partition, key, value) for partition, key, value in records]
        return {partition: offset for (_, partition), offset in (await self._publisher.append(placed)).items()}

    async def read(self, topic: Topic, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """The events of one partition with start <= offset < stop, in order."""
        return await self._history().read(topic.name, partition, start, stop)

    async def read_records(self, topic: Topic, partition: int, start: int, stop: int) -> list[Record]:
        """The records of one partition with start <= offset < stop, in order, as they are."""
        return await self._history().read_records(topic.name, partition, start, stop)

    async def end_offset(self, topic: Topic, partition: int) -> int:
        """The offset the next record of this partition will get."""
        await self._ensure_foreign({topic})
        return await self._history().end_offset(topic.name, partition)

    async def begin_offset(self, topic: Topic, partition: int) -> int:
        """The offset of the oldest record of this partition that is not deleted."""
        await self._ensure_foreign({topic})
        return await self._history().begin_offset(topic.name, partition)

    def partition_for(self, topic: Topic, key: bytes) -> int:
        """The partition a key goes to, the same for all topics."""
        return partition_of(key, self.settings.partitions)

    # for the consumer

    async def open(self, topics: Iterable[Topic]) -> None:
        """Create and check the topics, waiting for the broker as long as it takes; from then on publish and read."""
        self.state = f"connecting to Kafka at {self.settings.kafka_bootstrap}"
        await self._ensure(topics)
        self._publisher = KafkaPublisher(self.service, self.settings, self._partitions)
        self._reader = HistoryReader(self.service, self.settings)

    def note_answer(self) -> None:
        """Note that the broker has just answered."""
        self._answered = time.monotonic()

    def shorten_deadlines(self) -> None:
        """The process is stopping: publishing waits only briefly for acks from now on."""
        if self._publisher:
            self._publisher.shorten_deadlines()

    async def close(self) -> None:
        """Deliver what was accepted for publishing, and close the connections."""
        publisher, self._publisher = self._publisher, None
        await asyncio.gather(*(part.close() for part in (publisher, self._reader) if part is not None))

    async def _ensure(self, topics: Iterable[Topic], within_s: float = math.inf) -> None:
        wanted = set(topics)
        await ensure_topics(self.settings, wanted, within_s)
        self._ensured |= wanted

    async def _ensure_foreign(self, topics: Set[Topic]) -> None:
        """Create the topics of other services, which may not have started yet."""
        if foreign := topics - self._ensured:
            await self._ensure(foreign, self.settings.delivery_timeout_s)

    def _partitions(self, keys: Sequence[bytes]) -> Sequence[int]:
        return partitions_of(keys, self.settings.partitions)

    def _history(self) -> HistoryReader:
        if self._reader is None:
            raise Unavailable(self.state or "not started")
        return self._reader
