"""The Kafka engine: a group consumer, a follower of broadcasts and an idempotent producer over aiokafka."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache

from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]

from everloop_schemas.envelope import Event, Topic
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.kafka.follower import BroadcastFollower, HistoryReader
from everloop_shared.messaging.kafka.group import GroupConsumer
from everloop_shared.messaging.kafka.producer import KafkaPublisher
from everloop_shared.messaging.kafka.rounds import Rounds
from everloop_shared.messaging.kafka.topics import ensure_topics, topics_of
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.processor import Processor
from everloop_shared.messaging.routes import CATCH_UP_LOOK_S, EngineFactory, Position, Route, StartAt, UnitOfWork
from everloop_shared.settings import Settings

log = logging.getLogger(__name__)
LOOK_EVERY_S = 2.0
LOOK_WITHIN_S = 5.0
AWAY_AFTER_S = 6.0


def kafka_factory(settings: Settings) -> EngineFactory:
    """Makes engines on the cluster that the settings name; reads EVERLOOP_KAFKA_CONFIG now, to fail early."""
    client_settings(settings, "check")

    def make(
        service: str,
        routes: Sequence[Route],
        *,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
    ) -> KafkaEngine:
        return KafkaEngine(service, routes, settings, unit_of_work, start_at)

    return make


@lru_cache(4_096)  # entities come again, ids do not: each kept would be 300 bytes for nothing
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: murmur2, as the Java client, aiokafka and Faust do it by default."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class KafkaEngine:
    """Implements `routes.Engine` on Apache Kafka; made in any order, started on a running event loop."""

    def __init__(
        self,
        service: str,
        routes: Sequence[Route],
        settings: Settings,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
    ) -> None:
        self.service, self.settings = service, settings
        self._routes = list(routes)
        self._unit, self._start_at = unit_of_work, start_at
        self._publisher: KafkaPublisher | None = None
        self._reader: HistoryReader | None = None
        self._group: GroupConsumer | None = None
        self._follower: BroadcastFollower | None = None
        self._watch: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[Exception] | None = None
        self._ensured: set[Topic] = set()
        self._answered = 0.0
        self._looks = self._answered_look = 0
        self._look_now = asyncio.Event()
        self._state: str | None = "not started"

    async def start(self) -> None:
        """Topics, outbox, broadcasts to their end, then the group.

        A broker that is not there is waited for as long as it takes: what can be done without goes on meanwhile.
        """
        self._failure = asyncio.get_running_loop().create_future()
        self._state = f"connecting to Kafka at {self.settings.kafka_bootstrap}"
        await self._ensure(topics_of(self.service, self._routes))
        self._publisher = KafkaPublisher(self.service, self.settings, self._partition)
        self._reader = HistoryReader(self.service, self.settings)
        await self._start_consumers()
        self._answered = time.monotonic()
        self._watch = asyncio.create_task(self._look())
        self._state = None

    async def stop(self) -> None:
        """Finish the rounds in hand, deliver what they caused, commit, and leave. Idempotent."""
        self._state = "stopping"
        if self._watch:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        if self._publisher:
            self._publisher.hurry()
        await self._stop_consumers()
        publisher, self._publisher = self._publisher, None
        await asyncio.gather(*(part.close() for part in (publisher, self._reader) if part is not None))

    async def failed(self) -> BaseException:
        """Wait for a failure that ends the engine."""
        assert self._failure is not None, "start first"
        return await asyncio.shield(self._failure)

    def ready(self) -> str | None:
        """None when started and the broker answers."""
        if self._state:
            return self._state
        if (silent_s := time.monotonic() - self._answered) > AWAY_AFTER_S:
            return f"Kafka at {self.settings.kafka_bootstrap} has not answered for {silent_s:.0f} s"
        return self._publisher.trouble if self._publisher else None

    def live(self) -> str | None:
        """None unless the engine has failed, or a partition stands still with lag while the broker answers."""
        if self._failure and self._failure.done():
            return f"failed: {self._failure.result()!r}"
        return next((reason for rounds in self._all_rounds() if (reason := rounds.stuck())), None)

    async def publish(self, events: Sequence[Event]) -> None:
        """Return once the broker has all of them (`acks=all`)."""
        if not events:
            return
        if self._publisher is None:
            raise Unavailable(self._state or "not started")
        if foreign := {event.topic for event in events} - self._ensured:
            await self._ensure(foreign, self.settings.delivery_timeout_s)
        await self._publisher.publish(events)

    async def read(self, topic: Topic, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """The events of one partition with start <= offset < stop, in order."""
        return await self._history().read(topic.name, partition, start, stop)

    async def end_offset(self, topic: Topic, partition: int) -> int:
        """The offset the next record of this partition will get."""
        return await self._history().end_offset(topic.name, partition)

    async def caught_up(self, within_s: float) -> bool:
        """Wait until the ends of the logs as of now are reached; a question to the broker is never cut off for it."""
        look = self._looks + 1  # the next one: whoever waits together shares it
        self._look_now.set()
        try:
            async with asyncio.timeout(within_s):
                while self._answered_look < look:
                    await asyncio.sleep(CATCH_UP_LOOK_S)
                for rounds in self._all_rounds():
                    await rounds.caught_up()
        except TimeoutError:
            return False
        return True

    def partition_for(self, topic: Topic, key: bytes) -> int:
        """The partition a key goes to, the same for all topics."""
        return self._partition(key)

    async def _ensure(self, topics: Iterable[Topic], within_s: float = math.inf) -> None:
        wanted = set(topics)
        await ensure_topics(self.settings, wanted, within_s)
        self._ensured |= wanted

    def _partition(self, key: bytes) -> int:
        return partition_of(key, self.settings.partitions)

    def _history(self) -> HistoryReader:
        if self._reader is None:
            raise Unavailable(self._state or "not started")
        return self._reader

    async def _start_consumers(self) -> None:
        while True:
            try:
                await self._relay()
                await self._follow()
                await self._join()
                return
            except (KafkaError, Unavailable) as e:  # the broker went away in between
                await self._stop_consumers()
                log.warning("start failed, trying again", extra={"reason": repr(e)})
                await asyncio.sleep(0.5)

    async def _relay(self) -> None:
        if self._unit:
            await self._unit.relay(self)

    async def _follow(self) -> None:
        routes = [r for r in self._routes if r.broadcast]
        if routes:
            processor = Processor(self.service, routes, self, ledger=self._ledger("crashes-broadcast"))
            self._follower = BroadcastFollower(self.service, routes, self.settings, processor, self._fail)
            await self._follower.start()

    async def _join(self) -> None:
        routes = [r for r in self._routes if not r.broadcast]
        if routes:
            names = [r.topic.name for r in routes]
            processor = Processor(self.service, routes, self, self._unit, self._ledger("crashes"))
            self._group = GroupConsumer(
                self.service, names, self.settings, processor, self._fail, self._unit, self._start_at
            )
            await self._group.start()

    def _ledger(self, name: str) -> CrashLedger:
        return CrashLedger(self.settings.folder(self.service) / f"{name}-{self.settings.instance}.json")

    async def _stop_consumers(self) -> None:
        group, self._group = self._group, None
        follower, self._follower = self._follower, None
        parts = [part for part in (group, follower) if part is not None]
        await asyncio.gather(*(part.stop() for part in parts))
        if group and self._unit and self._publisher and not self._publisher.trouble:
            try:
                await self._unit.relay(self)
            except Exception as e:  # they are safe there; the next start relays them
                log.warning("events stay in the outbox", extra={"reason": repr(e)})

    def _all_rounds(self) -> list[Rounds]:
        return [part.rounds for part in (self._group, self._follower) if part is not None]

    def _fail(self, error: Exception) -> None:
        log.error("engine failed", extra={"reason": repr(error)})
        if self._failure and not self._failure.done():
            self._failure.set_result(error)

    async def _look(self) -> None:
        """Ask the broker regularly where the logs end: for lag, readiness and liveness."""
        try:
            while True:
                self._look_now.clear()
                await self._look_once()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._look_now.wait(), LOOK_EVERY_S)
        except Exception as e:  # else nobody would hear of it, and the engine would never be ready again
            self._fail(e)

    async def _look_once(self) -> None:
        self._looks += 1
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                for rounds in self._all_rounds():
                    await rounds.look_at_ends()
            self._answered, self._answered_look = time.monotonic(), self._looks
        except (KafkaError, TimeoutError):
            for rounds in self._all_rounds():
                rounds.broker_was_away()
