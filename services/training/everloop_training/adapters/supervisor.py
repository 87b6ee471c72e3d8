"""Keeps a worker running: starts it, has it catch up with the log, and starts another after it has exited."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

from everloop_learning.loops import KnownLoops
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.routes import Engine
from everloop_shared.signing import signer_of
from everloop_shared.tasks import cancel_all
from everloop_training.adapters.catch_up import WorkerCatchUp
from everloop_training.adapters.current_worker import CurrentWorker
from everloop_training.adapters.event_publisher import EventPublisher
from everloop_training.adapters.history import LogHistory
from everloop_training.adapters.parked import ParkedOutcomes
from everloop_training.adapters.personal import PersonalOutcomes
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.adapters.searches import MemorySearchLog
from everloop_training.adapters.worker_client import OutcomeFeeder, WorkerClient
from everloop_training.adapters.worker_exits import WorkerExits
from everloop_training.errors import WorkerUnavailable
from everloop_training.metrics import WORKER_STARTS
from everloop_training.ports import Worker
from everloop_training.settings import TrainingSettings
from everloop_training.worker.protocol import messages

log = logging.getLogger(__name__)
StartWorker = Callable[[TrainingSettings], Awaitable[Worker]]
DRAIN_WITHIN_S = 6.0
OPEN_AGAIN_AFTER_S = 0.1


class WorkerSupervisor:
    """Keeps one worker running, the one of this number; `feeder` and `client` are how the handlers reach it.

    Enter it before the consumer starts; `run` is a background job, and cancelling it drains: everything handed over is
    learned, published and in a snapshot.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        loops: KnownLoops,
        runs: MemoryRunLog,
        searches: MemorySearchLog,
        engine: Engine,
        personal: PersonalOutcomes,
        start: StartWorker,
        number: int = 0,
    ) -> None:
        self._settings, self._loops, self._start = settings.of_worker(number), loops, start
        self._name = f"worker {number}" if settings.workers > 1 else "the worker"
        self._starts = WORKER_STARTS.labels(number)
        self._current, self._publisher = CurrentWorker(), EventPublisher(engine, signer_of(settings))
        history = LogHistory(loops, engine, personal)
        parked = ParkedOutcomes(settings.snapshot_folder(), history, self._publisher)
        self._exits = WorkerExits(self._settings, parked)
        self.feeder = OutcomeFeeder(settings, self._current, parked, number)
        self.client = WorkerClient(self._current, self.feeder, self._publisher, runs, searches)
        self._catch_up = WorkerCatchUp(self._current, self.feeder, self.client, history, parked, runs, searches)
        self._jobs: list[asyncio.Task[None]] = []

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        return self._current.worker.pid if self._current.worker else None

    def not_ready(self) -> str | None:
        """None while the worker is ready."""
        return None if self._current.ready else f"{self._name} is starting"

    async def __aenter__(self) -> Self:
        jobs = (self._keep_running, self.feeder.run, self._publisher.run)
        self._jobs = [asyncio.create_task(job()) for job in jobs]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._current.stopping = True
        self._catch_up.cancel()
        await cancel_all(self._jobs)
        if self._current.worker:
            await self._current.worker.end()

    async def run(self) -> None:
        """Work until cancelled, then drain; raises when the worker keeps exiting or an event cannot be published."""
        try:
            done, _ = await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
        except asyncio.CancelledError:
            await self._drain()
            raise

    async def open(self, partition: int) -> messages.PartitionOpened:
        """Open a partition at its assignment, and return where to go on. Waits for the worker and the broker."""
        while not self._current.stopping:
            await self._current.wait_until(lambda: self._current.ready)
            try:
                if self._current.worker:
                    opened = await self._catch_up.open(self._current.worker, partition)
                    self.feeder.handed_over[partition] = opened.next_offset - 1
                    self.client.next_alerts[partition] = opened.next_alert
                    return opened
            except Unavailable as e:
                log.warning("partition not opened, trying again", extra={"partition": partition, "reason": e.detail})
            await asyncio.sleep(OPEN_AGAIN_AFTER_S)
        raise WorkerUnavailable("the service is stopping")

    async def _drain(self) -> None:
        self._current.stopping = True
        await self._current.notify()
        worker = self._current.worker
        if not self._current.ready or worker is None:
            return
        self.feeder.flush(worker)
        worker.send(messages.WriteSnapshots())
        try:
            await asyncio.wait_for(self._publisher.drained.wait(), DRAIN_WITHIN_S)
        except TimeoutError:
            log.warning("not drained in time, the last snapshot counts", extra={"seconds": DRAIN_WITHIN_S})

    async def _keep_running(self) -> None:
        """Start a worker, handle its answers until it exits, start the next."""
        while True:
            self._exits.clear_in_progress()
            worker = await self._start(self._settings)
            self._starts.inc()
            self._current.worker = worker
            receiving = asyncio.create_task(self.client.receive(worker, self._catch_up.attend))
            catching_up = asyncio.create_task(self._catch_up.bring_up(worker, self._loops))
            try:
                await asyncio.wait([receiving, catching_up], return_when=asyncio.FIRST_COMPLETED)
                if catching_up.done():
                    with suppress(WorkerUnavailable):
                        catching_up.result()
                await receiving
            finally:
                await cancel_all([receiving, catching_up])
            await self._restart_after_exit(worker)
            if self._current.stopping:
                return

    async def _restart_after_exit(self, worker: Worker) -> None:
        self._current.worker = None
        self._catch_up.reset()
        self.client.fail_pending()
        await worker.end()
        if self._current.stopping:
            self._publisher.drained.set()
            return
        await asyncio.sleep(await self._exits.record(worker.pid))
