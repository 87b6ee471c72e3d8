"""The consumer of a table of routes: broadcasts are followed, the rest is shared with the service's replicas."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable
from typing import Protocol

from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from everloop_schemas.envelope import Topic
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.kafka.follower import BroadcastFollower
from everloop_shared.messaging.kafka.group import GroupConsumer
from everloop_shared.messaging.kafka.poller import RecordPoller
from everloop_shared.messaging.kafka.topics import TopicNames, topics_of
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.processor import Processor
from everloop_shared.messaging.routes import CATCH_UP_POLL_S, Publisher, Routes, StartAt, UnitOfWork
from everloop_shared.settings import Settings
from everloop_shared.signing import trust_of

log = logging.getLogger(__name__)
QUERY_ENDS_EVERY_S = 2.0
QUERY_ENDS_TIMEOUT_S = 5.0
START_AGAIN_AFTER_S = 0.5


class Connection(Publisher, Protocol):
    """What the consumer needs of its engine."""

    service: str
    settings: Settings
    state: str | None

    @property
    def publisher_failure(self) -> str | None: ...
    def ready(self) -> str | None: ...
    async def open(self, topics: Iterable[Topic]) -> None: ...
    def note_answer(self) -> None: ...
    def shorten_deadlines(self) -> None: ...
    async def close(self) -> None: ...


class KafkaConsumer:
    """Implements `routes.RouteConsumer` on Apache Kafka; started on a running event loop."""

    def __init__(
        self,
        engine: Connection,
        routes: Routes,
        unit_of_work: UnitOfWork | None = None,
        start_at: StartAt | None = None,
    ) -> None:
        self._engine, self._service, self._settings = engine, engine.service, engine.settings
        self._routes, self._trust = list(routes), trust_of(engine.settings)
        self._unit, self._start_at = unit_of_work, start_at
        self._group: GroupConsumer | None = None
        self._follower: BroadcastFollower | None = None
        self._watch: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[Exception] | None = None
        self._queries = self._answered_query = 0
        self._query_now = asyncio.Event()

    async def start(self) -> None:
        """Topics, outbox, broadcasts to their end, then the group.

        Waits for a broker that is away for as long as it takes; what needs no broker works meanwhile.
        """
        self._failure = asyncio.get_running_loop().create_future()
        await self._engine.open(topics_of(self._service, self._routes))
        await self._start_consumers()
        self._engine.note_answer()
        self._watch = asyncio.create_task(self._watch_ends())
        self._engine.state = None

    async def stop(self) -> None:
        """Finish the current batches, publish what they caused, commit, and leave. Idempotent."""
        self._engine.state = "stopping"
        if self._watch:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        self._engine.shorten_deadlines()
        await self._stop_consumers()
        await self._engine.close()

    async def failed(self) -> BaseException:
        """Wait for a failure that ends the consumer."""
        assert self._failure is not None, "start first"
        return await asyncio.shield(self._failure)

    def ready(self) -> str | None:
        """None when started and the broker answers."""
        return self._engine.ready()

    def live(self) -> str | None:
        """None unless the consumer has failed, or a partition with lag does not move while the broker answers."""
        if self._failure and self._failure.done():
            return f"failed: {self._failure.result()!r}"
        return next((reason for poller in self._pollers() if (reason := poller.stalled())), None)

    def assigned(self, topic: Topic) -> Collection[int]:
        """The partitions that the group has given to this process."""
        return self._group.assigned(topic.name) if self._group else ()

    async def caught_up(self, within_s: float) -> bool:
        """Wait until the present ends of the logs are reached. The query for the ends is never cancelled for it."""
        query = self._queries + 1  # the next one, which all who wait at the same time share
        self._query_now.set()
        try:
            async with asyncio.timeout(within_s):
                while self._answered_query < query:
                    await asyncio.sleep(CATCH_UP_POLL_S)
                for poller in self._pollers():
                    await poller.caught_up()
        except TimeoutError:
            return False
        return True

    async def _start_consumers(self) -> None:
        while True:
            try:
                if self._unit:
                    await self._unit.relay(self._engine)
                await self._follow()
                await self._join()
                return
            except (KafkaError, Unavailable) as e:  # the broker went away meanwhile
                await self._stop_consumers()
                log.warning("start failed, trying again", extra={"reason": repr(e)})
                if isinstance(e, Unavailable):
                    self._engine.state = e.detail
                await asyncio.sleep(START_AGAIN_AFTER_S)

    async def _follow(self) -> None:
        routes = [r for r in self._routes if r.broadcast]
        if routes:
            ledger = self._ledger("crashes-broadcast")
            processor = Processor(self._service, routes, self._engine, ledger=ledger, trust=self._trust)
            self._follower = BroadcastFollower(self._service, routes, self._settings, processor, self._fail)
            await self._follower.start()

    async def _join(self) -> None:
        routes = [r for r in self._routes if not r.broadcast]
        if routes:
            topics = TopicNames(self._settings.topic_prefix)
            processor = Processor(self._service, routes, self._engine, self._unit, self._ledger("crashes"), self._trust)
            self._group = GroupConsumer(
                self._service,
                [r.name for r in routes],
                topics,
                self._settings,
                processor,
                self._fail,
                self._unit,
                self._start_at,
            )
            await self._group.start()

    def _ledger(self, name: str) -> CrashLedger:
        return CrashLedger(self._settings.folder(self._service) / f"{name}-{self._settings.instance}.json")

    async def _stop_consumers(self) -> None:
        group, self._group = self._group, None
        follower, self._follower = self._follower, None
        parts = [part for part in (group, follower) if part is not None]
        await asyncio.gather(*(part.stop() for part in parts))
        if group and self._unit and not self._engine.publisher_failure:
            try:
                await self._unit.relay(self._engine)
            except Exception as e:  # the next start relays them
                log.warning("events stay in the outbox", extra={"reason": repr(e)})

    def _pollers(self) -> list[RecordPoller]:
        return [part.poller for part in (self._group, self._follower) if part is not None]

    def _fail(self, error: Exception) -> None:
        log.error("consumer failed", extra={"reason": repr(error)})
        if self._failure and not self._failure.done():
            self._failure.set_result(error)

    async def _watch_ends(self) -> None:
        """Query the ends of the logs regularly: for lag, readiness and liveness."""
        try:
            while True:
                self._query_now.clear()
                await self._query_ends()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._query_now.wait(), QUERY_ENDS_EVERY_S)
        except Exception as e:  # unreported, the consumer would never be ready again
            self._fail(e)

    async def _query_ends(self) -> None:
        self._queries += 1
        try:
            async with asyncio.timeout(QUERY_ENDS_TIMEOUT_S):
                for poller in self._pollers():
                    await poller.query_ends()
            self._engine.note_answer()
            self._answered_query = self._queries
        except (KafkaError, TimeoutError):
            for poller in self._pollers():
                poller.reset_stall_clocks()
