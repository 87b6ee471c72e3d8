"""Brings a worker up to date with the log: open partitions, the outcomes before, and the history of single lines."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from everloop_learning.loops import KnownLoops
from everloop_learning.outcome import Outcome
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_training.adapters.current_worker import CurrentWorker
from everloop_training.adapters.history import LogHistory
from everloop_training.adapters.parked import ParkedOutcomes
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.adapters.searches import MemorySearchLog
from everloop_training.adapters.worker_client import OutcomeFeeder, WorkerClient
from everloop_training.errors import WorkerUnavailable
from everloop_training.ports import Worker
from everloop_training.worker.protocol import messages

log = logging.getLogger(__name__)
CATCH_UP_OFFSETS = 500
"""Offsets of the log that a worker is sent at once."""


class WorkerCatchUp:
    """Opens partitions at the worker and sends it what it needs from the log; then the worker is `ready`.

    A partition whose outcome could not be learned is closed until it is learned again without that outcome; meanwhile
    nothing is handed over.
    """

    def __init__(
        self,
        current: CurrentWorker,
        feeder: OutcomeFeeder,
        client: WorkerClient,
        history: LogHistory,
        parked: ParkedOutcomes,
        runs: MemoryRunLog,
        searches: MemorySearchLog,
    ) -> None:
        self._current, self._feeder, self._client = current, feeder, client
        self._history, self._parked, self._runs, self._searches = history, parked, runs, searches
        self._closed: Counter[int] = Counter()
        self._caught_up = False
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, worker: Worker, partition: int) -> messages.PartitionOpened:
        """Have a worker open a partition; raises Unavailable where it has exited, or the broker is away."""
        topics = OutcomeObserved.topic, DriftDetected.topic
        end, alerts_end = [await self._history.log.end_offset(topic, partition) for topic in topics]
        if worker is not self._current.worker:  # it exited meanwhile, and would never answer
            raise WorkerUnavailable("the worker has exited; another is being started")
        runs, searches = self._runs, self._searches
        message = messages.OpenPartition(partition, end, alerts_end, runs.all(), runs.ends(), searches.newest())
        return await self._client.open_partition(worker, message)

    async def bring_up(self, worker: Worker, loops: KnownLoops) -> None:
        """Bring a new worker to where the last one was: states, snapshots, then the log up to what was handed over."""
        for state in loops.all():
            worker.send(messages.ApplyLoopState(state))
        async with self._opening:
            for partition in list(self._feeder.handed_over):
                await self._bring_up_partition(worker, partition)
        self._caught_up = True
        await self._resume()

    def attend(self, worker: Worker, message: messages.HistoryNeeded | messages.OutcomeFailed) -> None:
        """Start to send a line its history, or to have a partition learned again without an outcome."""
        if isinstance(message, messages.OutcomeFailed):
            self._closed[message.partition] += 1
            self._pause()
            self._start_task(self._learn_without(worker, message))
        else:
            self._start_task(self._send_history(worker, message))

    def reset(self) -> None:
        """The worker has exited: the next one has everything to catch up."""
        self._caught_up = False
        self._closed.clear()
        self._pause()

    def cancel(self) -> None:
        """Stop the work that `attend` has started."""
        for task in self._tasks:
            task.cancel()

    def _pause(self) -> None:
        """Hand nothing over until the worker has caught up; what is buffered is read from the log."""
        self._current.ready = False
        self._feeder.discard()

    async def _resume(self) -> None:
        self._current.ready = self._caught_up and not any(self._closed.values())
        await self._current.notify()

    async def _bring_up_partition(self, worker: Worker, partition: int) -> None:
        opened, stop = await self.open(worker, partition), self._feeder.handed_over[partition] + 1
        for start in range(opened.next_offset, stop, CATCH_UP_OFFSETS):
            upto = min(start + CATCH_UP_OFFSETS, stop)
            outcomes = await self._read_outcomes(partition, start, upto)
            worker.send(messages.LearnOutcomes(partition, outcomes, upto))
            await worker.drained()
        alerts = await self._history.alerts(partition, opened.next_alert, self._client.next_alerts[partition])
        worker.send(messages.ReplayAlerts(partition, alerts))

    async def _learn_without(self, worker: Worker, failed: messages.OutcomeFailed) -> None:
        """Park an outcome that could not be learned, and have its partition learned again without it."""
        await self._parked.park(failed.partition, failed.offset, f"learning failed: {failed.reason}")
        async with self._opening:
            if worker is not self._current.worker:
                return
            await self._bring_up_partition(worker, failed.partition)
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
