"""The Faust engine: groups of co-partitioned topics whose handlers share one keyed state (decisions 0010, 0011)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from everloop_shared.errors import Unavailable
from everloop_shared.messaging.faust.app import FaustSettings, new_app
from everloop_shared.messaging.faust.delivery import BatchDelivery
from everloop_shared.messaging.faust.keyed_group import KeyedGroupConsumer
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.keyed.groups import KeyedFactory, KeyedGroup
from everloop_shared.messaging.processing.crash_ledger import CrashLedger
from everloop_shared.messaging.processing.gathering import BatchGathering
from everloop_shared.messaging.routes import Consumer, Engine

log = logging.getLogger(__name__)
RECOVERY_STALLED_AFTER_S = 90.0
"""Longer than a rebalance, which waits up to 60 s for a replica that does not answer."""
STOP_TIMEOUT_S = 4.0

__all__ = ["FaustConsumer", "FaustSettings", "faust_keyed"]


def faust_keyed(settings: FaustSettings) -> KeyedFactory:
    """Keyed groups on Faust; one app, and so one consumer group, for all groups of a service."""

    def build(service: str, groups: Sequence[KeyedGroup], engine: Engine) -> Sequence[Consumer]:
        return [FaustConsumer(service, groups, engine, settings)]

    return build


class FaustConsumer:
    """Runs keyed groups with Faust inside the service's process.

    `engine` publishes their outputs; its consumer is started before, and stopped after, by its owner.
    """

    def __init__(self, service: str, groups: Sequence[KeyedGroup], engine: Engine, settings: FaustSettings) -> None:
        self.service, self._engine, self._settings = service, engine, settings
        self._groups = groups
        self._consumers: list[KeyedGroupConsumer] = []
        self._app: Any = None
        self._delivery: BatchDelivery | None = None
        self._failure: asyncio.Future[BaseException] | None = None
        self._jobs: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Recover the state and consume; returns when ready."""
        self._failure = asyncio.get_running_loop().create_future()
        app: Any = new_app(self.service, self._settings)
        self._app = app
        ledger = CrashLedger(self._settings.folder(self.service) / f"crashes-keyed-{self._settings.instance}.json")
        new_gathering = partial(BatchGathering, self._settings.gather_ms, self._settings.batch_size)
        self._delivery = delivery = BatchDelivery(app, new_gathering)
        self._consumers = [
            KeyedGroupConsumer(self.service, group, app, delivery, self._engine, self._settings, ledger, self.fail)
            for group in self._groups
        ]
        await ensure_topics(self._settings, [topic for consumer in self._consumers for topic in consumer.topics])
        app.loop = asyncio.get_running_loop()
        app.on_partitions_revoked.connect(self._on_partitions_revoked)
        app.finalize()
        for consumer in self._consumers:
            consumer.attach()
        delivery.install()
        app.in_worker = True
        self._jobs = [asyncio.create_task(job) for job in (self._watch_recovery(), self._watch_app(), self._sweep())]
        recovered: asyncio.Future[Any] = asyncio.create_task(self._recover())
        try:
            await asyncio.wait([recovered, self._failure], return_when=asyncio.FIRST_COMPLETED)
            if not recovered.done():
                raise Unavailable(f"the keyed state was not recovered: {self._failure.result()}")
            recovered.result()
        except BaseException:
            recovered.cancel()
            await self.stop()
            raise

    async def stop(self) -> None:
        """Finish the current batches, commit, and leave."""
        if self._app is None:
            return
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)
        for consumer in self._consumers:
            await consumer.drain()
        app, self._app = self._app, None
        for last in (app.consumer.commit, app.stop):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(last(), STOP_TIMEOUT_S)
        for consumer in self._consumers:
            consumer.close()

    async def failed(self) -> BaseException:
        """Wait until the app has crashed or a handler has failed for good."""
        assert self._failure is not None, "start first"
        return await asyncio.shield(self._failure)

    def fail(self, error: BaseException) -> None:
        """Report a failure that ends this consumer."""
        if self._failure and not self._failure.done():
            self._failure.set_result(error)

    def ready(self) -> str | None:
        """None once the state is recovered."""
        if self._app is None:
            return "not started"
        if not self._recovered().is_set() or self._app.rebalancing:
            return f"recovering keyed state: {self._app.tables.recovery.active_remaining_total():,} records to read"
        return next((failure for consumer in self._consumers if (failure := consumer.failure())), None)

    def live(self) -> str | None:
        """None unless a partition with lag does not move, or is not committed."""
        if self._failure and self._failure.done():
            return f"failed: {self._failure.result()!r}"
        if self.ready() is not None or self._engine.ready() is not None:
            for consumer in self._consumers:
                consumer.reset_stall_clocks()
            return None
        return next((reason for consumer in self._consumers if (reason := consumer.stalled())), None)

    def _recovered(self) -> asyncio.Event:
        tables: Any = self._app.tables
        recovered: asyncio.Event = tables.recovery.completed
        return recovered

    async def _on_partitions_revoked(self, app: Any, *args: Any, **kwargs: Any) -> None:
        for consumer in self._consumers:
            await consumer.release_partitions()
        if self._delivery:
            self._delivery.release()

    async def _recover(self) -> None:
        await self._app.start()
        await self._recovered().wait()

    async def _watch_recovery(self) -> None:
        """Fail when the recovery does not move while the broker answers: it would not continue by itself."""
        last_recovered, since = 0, time.monotonic()
        while True:
            await asyncio.sleep(1)
            recovered = sum(filter(None, self._app.tables.recovery.active_offsets.values()))
            if recovered != last_recovered or self.ready() is None or self._engine.ready() is not None:
                last_recovered, since = recovered, time.monotonic()
            elif time.monotonic() - since > RECOVERY_STALLED_AFTER_S:
                self.fail(
                    Unavailable(f"the recovery of keyed state has not moved for {RECOVERY_STALLED_AFTER_S:.0f} s")
                )
                return

    async def _watch_app(self) -> None:
        while not self._app.started:
            await asyncio.sleep(0.1)
        await self._app.wait_until_stopped()
        self.fail(self._app.crash_reason or Unavailable("Faust stopped by itself"))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._settings.sweep_interval_s)
            if self.ready() is not None:
                continue
            try:
                for consumer in self._consumers:
                    await consumer.sweep()
            except Unavailable as e:
                log.warning("sweeping backs off", extra={"reason": str(e)})
            except Exception as e:
                self.fail(e)
                return
