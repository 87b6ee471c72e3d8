"""The service's connection to its worker: outcomes in batches, requests with their replies, and events to publish."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from math import inf

from everloop_learning.outcome import Outcome
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.search import SearchRequested
from everloop_schemas.training import RunFinished, RunRequested
from everloop_shared.backoff import Backoff
from everloop_shared.messaging.routes import Position
from everloop_shared.spans.recorders import recorder_of
from everloop_training.adapters.current_worker import CurrentWorker
from everloop_training.adapters.event_publisher import EventPublisher
from everloop_training.adapters.learn_spans import LearnSpans
from everloop_training.adapters.parked import ParkedOutcomes
from everloop_training.adapters.pending_requests import PendingRequests
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.adapters.searches import MemorySearchLog
from everloop_training.domain.run_reply import RunReply
from everloop_training.domain.search_reply import SearchReply
from everloop_training.domain.trained_model import TrainedModel
from everloop_training.errors import OutcomesNotLearned, WorkerBusy, WorkerUnavailable
from everloop_training.metrics import IN_FLIGHT, IN_FLIGHT_BYTES, OUTCOMES
from everloop_training.ports import Worker
from everloop_training.settings import TrainingSettings
from everloop_training.worker.protocol import messages
from everloop_training.worker.protocol.messages import PartitionOpened, RunEnded, RunReplied, SearchReplied

BATCH_OUTCOMES = 100
END_RUN_WITHIN_S = 30.0
BUSY_AFTER_S = 0.1
"""How long a partition waits for room at its worker before it backs off, where there are other workers."""
RunRequest = messages.RequestDriftRun | messages.RequestManualRun | messages.RequestTunedRun
BACKOFF = Backoff(first_s=0.05, longest_s=2.0)


class OutcomeFeeder:
    """The OutcomeQueue port: buffers outcomes by partition and sends them in batches, within the limits in flight.

    `handed_over` is the last offset of each partition that was put here; a new worker is caught up to it.
    """

    def __init__(
        self, settings: TrainingSettings, current: CurrentWorker, parked: ParkedOutcomes, number: int = 0
    ) -> None:
        self.handed_over: dict[int, int] = {}
        self._settings, self._current, self._parked = settings, current, parked
        self._buffer: dict[int, list[tuple[str, Outcome]]] = defaultdict(list)
        self._buffered = asyncio.Event()
        self._in_flight = self._in_flight_bytes = 0
        self._most, self._most_bytes = settings.part(settings.in_flight), settings.part(settings.in_flight_bytes)
        self._processed = OUTCOMES.labels(number)
        recorder = recorder_of("training")
        self._spans = None if recorder is None else LearnSpans(recorder)
        IN_FLIGHT.labels(number).set_function(lambda: self._in_flight)
        IN_FLIGHT_BYTES.labels(number).set_function(lambda: self._in_flight_bytes)

    async def put(self, partition: int, loop: str, outcome: Outcome) -> None:
        """Add an outcome; waits while the worker is not ready or too many are in flight.

        Where there are other workers it raises WorkerUnavailable and WorkerBusy, so that their partitions go on.
        """
        if not self._current.ready or self._is_full():
            await self._wait_for_room()
        if self._current.stopping or outcome.offset <= self.handed_over.get(partition, -1):
            return
        self.handed_over[partition] = outcome.offset
        buffer = self._buffer[partition]  # also where the outcome is parked: the log has gone on
        if not self._parked.contains(partition, outcome):
            if self._spans is not None:
                self._spans.put(partition, len(buffer), loop)
            buffer.append((loop, outcome))
            self._in_flight += 1
            self._in_flight_bytes += outcome.size
        self._buffered.set()

    async def run(self) -> None:
        """Send what is buffered, a full batch at once, a smaller one `linger_ms` after the last one; for ever."""
        sent_at = -inf
        while True:
            await self._buffered.wait()
            early_s = sent_at + self._settings.linger_ms / 1000 - time.monotonic()
            if early_s > 0 and max(map(len, self._buffer.values()), default=0) < BATCH_OUTCOMES:
                await asyncio.sleep(early_s)
            sent_at = time.monotonic()
            await self._current.wait_until(lambda: self._current.ready)
            if worker := self._current.worker:
                self.flush(worker)
                await worker.drained()

    def flush(self, worker: Worker) -> None:
        """Send all that is buffered."""
        self._buffered.clear()
        for partition, outcomes in self._buffer.items():
            for i in range(0, len(outcomes) or 1, BATCH_OUTCOMES):
                upto = self.handed_over[partition] + 1 if i + BATCH_OUTCOMES >= len(outcomes) else 0
                batch = outcomes[i : i + BATCH_OUTCOMES]
                worker.send(messages.LearnOutcomes(partition, batch, upto))
                if self._spans is not None:
                    self._spans.sent(partition, i, len(batch))
        self._buffer.clear()
        if self._spans is not None:
            self._spans.flushed()

    def discard(self) -> None:
        """Drop what is buffered and in flight: a worker that catches up reads it from the log."""
        self._in_flight = self._in_flight_bytes = 0
        self._buffer.clear()
        if self._spans is not None:
            self._spans.discard()

    def acknowledge(self, processed: messages.OutcomesProcessed) -> None:
        """Outcomes are no longer in flight; those that catch a worker up never were."""
        self._processed.inc(processed.outcomes)
        if self._spans is not None:
            self._spans.learned(processed.outcomes)
        self._in_flight = max(0, self._in_flight - processed.outcomes)
        self._in_flight_bytes = max(0, self._in_flight_bytes - processed.size)

    async def _wait_for_room(self) -> None:
        alone = self._settings.workers == 1
        if not (alone or self._current.ready or self._current.stopping):
            raise WorkerUnavailable("the worker of this partition is starting")
        try:
            async with asyncio.timeout(None if alone else BUSY_AFTER_S):
                await self._current.wait_until(lambda: self._current.ready and not self._is_full())
        except TimeoutError as e:
            raise WorkerBusy(f"the worker has {self._in_flight:,} outcomes in flight") from e

    def _is_full(self) -> bool:
        return self._in_flight >= self._most or self._in_flight_bytes >= self._most_bytes


class WorkerClient:
    """The Learners port: sends requests and waits for the replies. `receive` hands on everything the worker answers.

    `next_alerts` is the next offset of each partition of alerts; a new worker is reminded of those before it.
    """

    def __init__(
        self,
        current: CurrentWorker,
        feeder: OutcomeFeeder,
        publisher: EventPublisher,
        runs: MemoryRunLog,
        searches: MemorySearchLog,
    ) -> None:
        self.next_alerts: dict[int, int] = {}
        self._current, self._feeder, self._publisher = current, feeder, publisher
        self._runs, self._searches = runs, searches
        self._pending = PendingRequests()
        self._number = 0

    def apply_loop_state(self, state: LoopState) -> None:
        """Pass on a loop's state; a worker that starts later gets the states of all loops."""
        if self._current.worker:
            self._current.worker.send(messages.ApplyLoopState(state))

    async def request_drift_run(self, alert: DriftDetected, at: Position) -> RunReply:
        """The run of an alert."""
        reply = await self._request(lambda n: messages.RequestDriftRun(n, at.partition, at.offset, alert))
        if not reply.behind:
            self.next_alerts[at.partition] = at.offset + 1
        return reply

    async def request_manual_run(self, loop: str, key: str, reason: str) -> RunReply:
        """A person's run."""
        return await self._request(lambda n: messages.RequestManualRun(n, loop, key, reason))

    async def request_search(self, loop: str, model: int, key: str, reason: str) -> SearchReply:
        """A person's search."""
        worker, number = self._next_request()
        message = messages.RequestSearch(number, loop, model, key, reason)
        return (await self._pending.request_search(worker, message, number)).reply

    async def request_tuned_run(self, search: SearchRequested, model: ModelSpec, reason: str) -> RunReply:
        """The run of the model that a search found."""
        reply = await self._request(lambda n: messages.RequestTunedRun(n, search, model, reason))
        if reply.behind:
            raise OutcomesNotLearned(f"the outcomes of {search.loop} are being learned again")
        return reply

    async def take_model(self, loop: str, run: str, model: TrainedModel) -> RunFinished | None:
        """A run has trained a model."""
        if end := self._runs.end_of(loop, run):
            return end
        return await self._end_run(lambda n: messages.TakeModel(n, loop, run, model))

    async def fail_run(self, loop: str, run: str, reason: str) -> RunFinished | None:
        """A run has trained no model."""
        if end := self._runs.end_of(loop, run):
            return end
        return await self._end_run(lambda n: messages.FailRun(n, loop, run, reason))

    async def open_partition(self, worker: Worker, message: messages.OpenPartition) -> messages.PartitionOpened:
        """Have a worker open a partition; raises WorkerUnavailable."""
        return await self._pending.open_partition(worker, message)

    async def receive(
        self, worker: Worker, attend: Callable[[Worker, messages.HistoryNeeded | messages.OutcomeFailed], None]
    ) -> None:
        """Handle the worker's answers until it has exited; `attend` starts the work on those that need the log."""
        while (message := await worker.receive()) is not None:
            match message:
                case PartitionOpened() | RunReplied() | RunEnded() | SearchReplied():
                    self._pending.resolve(message)
                case messages.HistoryNeeded() | messages.OutcomeFailed():
                    attend(worker, message)
                case messages.OutcomesProcessed():
                    self._feeder.acknowledge(message)
                    await self._current.notify()
                case _:
                    self._record_runs(message)
                    await self._publisher.put(message)

    def fail_pending(self) -> None:
        """The worker has exited: its requests are not answered any more."""
        self._pending.fail_all()

    def _record_runs(self, message: messages.ToPublish) -> None:
        """Know runs, their ends and searches at once: a new worker may start before they are on the log."""
        for event in message.events if isinstance(message, messages.EventsProduced) else ():
            if isinstance(event, RunRequested):
                self._runs.add_requested(event)
            elif isinstance(event, RunFinished):
                self._runs.add_finished(event)
            elif isinstance(event, SearchRequested):
                self._searches.add_requested(event)

    async def _request(self, build: Callable[[int], RunRequest]) -> RunReply:
        worker, number = self._next_request()
        reply = (await self._pending.request_run(worker, build(number), number)).reply
        if reply.run:
            self._runs.add_requested(reply.run)
        return reply

    async def _end_run(self, build: Callable[[int], messages.TakeModel | messages.FailRun]) -> RunFinished | None:
        give_up_at = time.monotonic() + END_RUN_WITHIN_S
        for pause in BACKOFF.pauses():
            worker, number = self._next_request()
            reply = (await self._pending.end_run(worker, build(number), number)).reply
            if not reply.behind:
                return reply.finished
            if time.monotonic() > give_up_at:
                break
            await asyncio.sleep(pause)
        raise OutcomesNotLearned("the log is being learned again, or the model cannot be loaded yet; retry")

    def _next_request(self) -> tuple[Worker, int]:
        """The worker, which was sent all that is buffered, and the number of a request to it."""
        worker = self._current.require()
        self._feeder.flush(worker)
        self._number += 1
        return worker, self._number
