"""Keeps a worker running: starts it, catches it up with the log, and starts another after it has exited."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from everloop_learning.loops import KnownLoops
from everloop_learning.outcome import Outcome
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.routes import Engine
from everloop_training.adapters.current_worker import CurrentWorker
from everloop_training.adapters.event_publisher import EventPublisher
from everloop_training.adapters.history import LogHistory
from everloop_training.adapters.parked import ParkedOutcomes
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.adapters.worker_client import OutcomeFeeder, WorkerClient
from everloop_training.adapters.worker_exits import WorkerExits
from everloop_training.errors import WorkerUnavailable
from everloop_training.metrics import WORKER_STARTS
from everloop_training.ports import Worker
from everloop_training.settings import TrainingSettings
from everloop_training.worker.protocol import messages

log = logging.getLogger(__name__)
StartWorker = Callable[[TrainingSettings], Awaitable[Worker]]
CATCH_UP_OFFSETS = 500
"""Offsets of the log that a new worker is sent at once."""
DRAIN_WITHIN_S = 6.0
OPEN_AGAIN_AFTER_S = 0.1


class WorkerSupervisor:
    """Keeps one worker running and its partitions open.

    Enter it before the consumer starts; `run` is a background job, and cancelling it drains: everything handed over is
    learned, published and in a snapshot.
    """

    def __init__(
        self, settings: TrainingSettings, loops: KnownLoops, runs: MemoryRunLog, engine: Engine, start: StartWorker
    ) -> None:
        self._settings, self._loops, self._runs, self._start = settings, loops, runs, start
        self._log, self._history = engine, LogHistory(loops, engine)
        self._current, self._publisher = CurrentWorker(), EventPublisher(engine)
        self._parked = ParkedOutcomes(settings.snapshot_folder(), self._history, self._publisher)
        self._exits = WorkerExits(settings, self._parked)
        self.feeder = OutcomeFeeder(settings, self._current, self._parked)
        self.client = WorkerClient(self._current, self.feeder, self._publisher, runs)
        self._jobs: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed: Counter[int] = Counter()
        self._caught_up = False
        self._opening = asyncio.Lock()

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        return self._current.worker.pid if self._current.worker else None

    def not_ready(self) -> str | None:
        """None while the worker is ready."""
        return None if self._current.ready else "the worker is starting"

    async def __aenter__(self) -> Self:
        jobs = (self._keep_running, self.feeder.run, self._publisher.run)
        self._jobs = [asyncio.create_task(job()) for job in jobs]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._current.stopping = True
        for job in (*self._jobs, *self._tasks):
            job.cancel()
        await asyncio.wait(self._jobs)
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

    async def open(self, partition: int) -> messages.PartitionOpened:
        """Open a partition at its assignment, and return where to go on. Waits for the worker and the broker."""
        while not self._current.stopping:
            await self._current.wait_until(lambda: self._current.ready)
            try:
                if self._current.worker:
                    opened = await self._open(self._current.worker, partition)
                    self.feeder.handed_over[partition] = opened.next_offset - 1
                    self.client.next_alerts[partition] = opened.next_alert
                    return opened
            except Unavailable as e:
                log.warning("partition not opened, trying again", extra={"partition": partition, "reason": e.detail})
            await asyncio.sleep(OPEN_AGAIN_AFTER_S)
        raise WorkerUnavailable("the service is stopping")

    async def _open(self, worker: Worker, partition: int) -> messages.PartitionOpened:
        topics = OutcomeObserved.topic, DriftDetected.topic
        end, alerts_end = [await self._log.end_offset(topic, partition) for topic in topics]
        if worker is not self._current.worker:  # it exited meanwhile, and would never answer
            raise WorkerUnavailable("the worker has exited; another is being started")
        message = messages.OpenPartition(partition, end, alerts_end, self._runs.all(), self._runs.ended())
        return await self.client.open_partition(worker, message)

    async def _keep_running(self) -> None:
        """Start a worker, handle its answers until it exits, start the next."""
        while True:
            self._exits.clear_in_progress()
            worker = await self._start(self._settings)
            WORKER_STARTS.inc()
            self._current.worker = worker
            receiving = asyncio.create_task(self.client.receive(worker, self._attend))
            catching_up = asyncio.create_task(self._catch_up(worker))
            try:
                await asyncio.wait([receiving, catching_up], return_when=asyncio.FIRST_COMPLETED)
                if catching_up.done():
                    with suppress(WorkerUnavailable):
                        catching_up.result()
                await receiving
            finally:
                receiving.cancel()
                catching_up.cancel()
                await asyncio.wait([receiving, catching_up])
            await self._restart_after_exit(worker)
            if self._current.stopping:
                return

    async def _restart_after_exit(self, worker: Worker) -> None:
        self._current.worker, self._caught_up = None, False
        self._closed.clear()
        self._pause()
        self.client.fail_pending()
        await worker.end()
        if self._current.stopping:
            self._publisher.drained.set()
            return
        await asyncio.sleep(await self._exits.record(worker.pid))

    def _pause(self) -> None:
        """Hand nothing over until the worker has caught up with the log; what is buffered is read from there."""
        self._current.ready = False
        self.feeder.discard()

    async def _resume(self) -> None:
        self._current.ready = self._caught_up and not any(self._closed.values())
        await self._current.notify()

    async def _catch_up(self, worker: Worker) -> None:
        """Bring a new worker to where the last one was: states, snapshots, then the log up to what was handed over."""
        for state in self._loops.all():
            worker.send(messages.ApplyLoopState(state))
        async with self._opening:
            for partition in list(self.feeder.handed_over):
                await self._catch_up_partition(worker, partition)
        self._caught_up = True
        await self._resume()

    async def _catch_up_partition(self, worker: Worker, partition: int) -> None:
        opened, stop = await self._open(worker, partition), self.feeder.handed_over[partition] + 1
        for start in range(opened.next_offset, stop, CATCH_UP_OFFSETS):
            upto = min(start + CATCH_UP_OFFSETS, stop)
            outcomes = await self._read_outcomes(partition, start, upto)
            worker.send(messages.LearnOutcomes(partition, outcomes, upto))
            await worker.drained()
        alerts = await self._history.alerts(partition, opened.next_alert, self.client.next_alerts[partition])
        worker.send(messages.ReplayAlerts(partition, alerts))

    def _attend(self, worker: Worker, message: messages.HistoryNeeded | messages.OutcomeFailed) -> None:
        if isinstance(message, messages.OutcomeFailed):
            self._closed[message.partition] += 1
            self._pause()
            self._start_task(self._learn_without(worker, message))
        else:
            self._start_task(self._send_history(worker, message))

    async def _learn_without(self, worker: Worker, failed: messages.OutcomeFailed) -> None:
        """Park an outcome that could not be learned, and have its partition learned again without it."""
        await self._parked.park(failed.partition, failed.offset, f"learning failed: {failed.reason}")
        async with self._opening:
            if worker is not self._current.worker:
                return
            await self._catch_up_partition(worker, failed.partition)
        self._closed[failed.partition] -= 1
        await self._resume()

    async def _send_history(self, worker: Worker, needed: messages.HistoryNeeded) -> None:
        outcomes = await self._read_outcomes(needed.partition, needed.start, needed.stop)
        worker.send(messages.LearnHistory(needed, [outcome for loop, outcome in outcomes if loop == needed.loop]))

    async def _read_outcomes(self, partition: int, start: int, stop: int) -> list[tuple[str, Outcome]]:
        return self._parked.leave_out(partition, await self._history.outcomes(partition, start, stop))

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("the worker was not sent what it needs from the log", extra={"reason": repr(error)})
