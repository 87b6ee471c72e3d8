"""Routes and the Protocols of an engine, which all engines implement."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import msgspec

from everloop_schemas.envelope import Event, Topic
from everloop_shared.cloudevents import STRUCTURED
from everloop_shared.errors import Misconfigured

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""The largest record that topics take."""
HEADROOM = 64 * 1024
"""An upper limit of what Kafka adds to a record."""
CATCH_UP_POLL_S = 0.005
"""The interval in which a caller that waits for a consumer to catch up checks whether it has."""


class Position(msgspec.Struct, frozen=True, gc=False):
    """The place of a record on the log.

    `topic` is without prefix, `timestamp` the broker's in ms since the epoch, `size`
    that of the record in bytes, so that what is kept in memory because of a record can be counted.
    """

    topic: str
    partition: int = 0
    offset: int = 0
    timestamp: int = 0
    size: int = 0


Partition = tuple[str, int]
"""A topic's name, as in `Position`, and the number of the partition."""
Headers = Sequence[tuple[str, bytes]]
EVENT_HEADERS: Headers = (("content-type", f"{STRUCTURED}; charset=UTF-8".encode()),)
"""The headers of every event on a topic, from which readers know its form (Kafka binding of CloudEvents, 3.3.1)."""
EncodedEvent = tuple[str, bytes, bytes]
"""An event ready to be sent: the name of its topic without prefix, its key and its wire form."""


class Record(msgspec.Struct, frozen=True):
    """A record as it lies on the log."""

    at: Position
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


Handler = Callable[[Any, Position], Awaitable[Iterable[Event]]]
"""Takes one event and its position, and returns the events to publish. It never publishes, commits or retries."""


@dataclass(frozen=True)
class Route:
    """One topic and its handler.

    A group route shares the topic's partitions with the service's other replicas, and its offset is committed
    after its effects. A `broadcast` route reads every partition from the beginning in every process, commits
    nothing, and is read to its end as of the start before the consumer is ready; its handler only updates memory
    and returns no events. Records of one partition are handled one after the other, in order. With `start_at` a
    broadcast whose state is stored continues there instead of at the beginning.
    """

    topic: Topic
    handle: Handler
    broadcast: bool = False
    start_at: StartAt | None = None

    @property
    def name(self) -> str:
        """The topic's name, without prefix."""
        return self.topic.name


Routes = Sequence[Route]


def checked(routes: Routes) -> Routes:
    """The routes as they are. Raises Misconfigured where two are of one topic."""
    twice = [name for name, number in Counter(r.name for r in routes).items() if number > 1]
    if twice:
        raise Misconfigured(f"two routes consume the same topic: {', '.join(twice)}")
    return routes


class Publisher(Protocol):
    """Publishes events. Returns once the broker has all of them (`acks=all`); may be called concurrently.

    Raises Unavailable when the broker is away for longer than the delivery timeout, Overloaded when its bounded
    buffer is full, InputRejected for an event over the size limit. Events of one call and key keep their order.
    """

    async def publish(self, events: Sequence[Event]) -> None: ...


class UnitOfWork(Protocol):
    """Effects and offsets in one transaction, for services with a database.

    The engine opens it around a batch of records. Entering begins a transaction, into which the handlers' ports
    write. `savepoint()` is a block whose effects alone are undone when it raises. `record(events, offsets)` adds the
    events to the outbox and the next offsets to the stored ones. Leaving commits, or rolls back after an exception.
    `offsets()` gives the offsets at which to continue after an assignment, by (topic, partition). `relay()` publishes
    what is in the outbox, in order, and may be called often. `settle()` ends a batch, and may pause.
    """

    async def __aenter__(self) -> UnitOfWork: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    async def record(self, events: Sequence[Event], offsets: dict[Partition, int]) -> None: ...
    def savepoint(self) -> AbstractAsyncContextManager[None]: ...
    async def offsets(self) -> dict[Partition, int]: ...
    async def relay(self, publisher: Publisher) -> None: ...
    async def settle(self) -> None: ...


StartAt = Callable[[str, int], Awaitable[int | None]]
"""The offset at which to start a partition (topic, partition) after its assignment; None continues at the commit."""


KeyedRecord = tuple[int, bytes, bytes | None]
"""Partition, key and value of a record that is no event; None is a tombstone."""


class LogReader(Protocol):
    """Reads history: any part of any partition, without a consumer group."""

    async def read(self, topic: Topic, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """The records of one partition with start <= offset < stop, in order.

        Records that do not decode are left out. Offsets already deleted are skipped.
        """

    async def end_offset(self, topic: Topic, partition: int) -> int:
        """The offset the next record of this partition will get."""

    async def begin_offset(self, topic: Topic, partition: int) -> int:
        """The offset of the oldest record of this partition that is not deleted."""

    def partition_for(self, topic: Topic, key: bytes) -> int:
        """The partition a key goes to."""


class RecordReader(LogReader, Protocol):
    """Reads history as it lies on the log."""

    async def read_records(self, topic: Topic, partition: int, start: int, stop: int) -> list[Record]:
        """As `read`, but also the records that do not decode, and tombstones."""


class Consumer(Protocol):
    """Consumes topics from `start` to `stop`. `start` returns once it consumes and the broadcasts are read."""

    async def start(self) -> None: ...
    async def stop(self) -> None:
        """Finish the current batches, publish what they caused, commit, and leave. Idempotent."""

    async def failed(self) -> BaseException:
        """Wait until the consumer has failed for good, and return why."""

    def ready(self) -> str | None:
        """None when ready, else the reason why not."""

    def live(self) -> str | None:
        """None when alive, else which partition with lag has not moved, and for how long."""


class RouteConsumer(Consumer, Protocol):
    """The consumer of a table of routes. It also opens and closes the connection of the engine that built it."""

    def assigned(self, topic: Topic) -> Collection[int]:
        """The partitions of a topic that this process handles now, of a group route."""

    async def caught_up(self, within_s: float) -> bool:
        """Wait until all that lay on the consumed partitions when this was called is handled.

        False where that takes longer than `within_s` seconds, or the broker is away.
        """


class Engine(Publisher, RecordReader, Protocol):
    """One service's access to the broker, and the builder of its consumer.

    A composition root makes the engine first, passes it on as `Publisher` or `LogReader`,
    and builds the consumer last, from the handlers. An engine has one consumer; until that has started, publishing
    and reading raise Unavailable.
    """

    async def publish_encoded(self, events: Sequence[EncodedEvent]) -> None:
        """As `publish`, for events of the service's own topics that were encoded before."""

    def consumer(
        self,
        routes: Routes,
        *,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
    ) -> RouteConsumer:
        """The consumer of these routes, not started."""

    async def append(self, topic: Topic, records: Sequence[KeyedRecord]) -> Mapping[int, int]:
        """Write records of the service's own state to a topic that exists, in order within a partition.

        Returns the offset of the last one in each partition. Returns and raises as `publish` does.
        """

    def ready(self) -> str | None:
        """None while the consumer is started and the broker answers, else the reason why not."""


class EngineFactory(Protocol):
    """Makes the engine of a service; what a composition root is given, so that tests swap the broker."""

    def __call__(self, service: str) -> Engine: ...


def encode(event: Event) -> EncodedEvent:
    """The event, ready to be sent."""
    return event.topic.name, event.key(), event.encode()


@asynccontextmanager
async def connected(engine: Engine) -> AsyncIterator[Engine]:
    """The engine of a program that publishes and reads but consumes nothing."""
    connection = engine.consumer([])
    try:
        await connection.start()
        yield engine
    finally:
        await connection.stop()
