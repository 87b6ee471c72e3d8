"""Learners in a worker process: fed in batches, replaced when it dies, its events published in order."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.training import RunRequested
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.routes import Engine, Position
from everloop_training.adapters.answers import Answers
from everloop_training.adapters.deaths import Deaths
from everloop_training.adapters.history import History
from everloop_training.adapters.parked import Parked
from everloop_training.adapters.pump import Pump
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.domain.outcome import Outcome, outcome_of
from everloop_training.errors import Behind, LearnersAway
from everloop_training.messages import (
    Answer,
    Fill,
    Follow,
    Learn,
    Learned,
    OnDrift,
    Open,
    Opened,
    Refused,
    Remind,
    Request,
    Snapshot,
    Wanted,
)
from everloop_training.metrics import IN_FLIGHT, IN_FLIGHT_BYTES, OUTCOMES, WORKER_STARTS
from everloop_training.ports import Worker
from everloop_training.settings import TrainingSettings

log = logging.getLogger(__name__)
StartWorker = Callable[[TrainingSettings], Awaitable[Worker]]
BATCH = 100
CHUNK = 500
DRAIN_S = 6.0


class ProcessLearners:
    """The Learners port over one worker process.

    Enter it before the consumer starts; `run` is a background job, and cancelling it drains: everything handed over
    is learned, published and in a snapshot.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        loops: KnownLoops,
        runs: MemoryRunLog,
        engine: Engine,
        start: StartWorker,
    ) -> None:
        self._engine, self._history = engine, History(loops, engine)
        self._settings, self._loops, self._runs, self._start = settings, loops, runs, start
        self._worker: Worker | None = None
        self._up = self._stopping = False
        self._changed = asyncio.Condition()
        self._buffer: dict[int, list[tuple[str, Outcome]]] = defaultdict(list)
        self._buffered = asyncio.Event()
        self._handled: dict[int, int] = {}
        self._next_alert: dict[int, int] = {}
        self._in_flight = self._in_flight_bytes = 0
        self._answers = Answers()
        self._number = 0
        self._pump = Pump(engine)
        self._jobs: list[asyncio.Task[None]] = []
        self._fetching: set[asyncio.Task[None]] = set()
        self._closed: Counter[int] = Counter()
        self._taken_up = False
        self._one_at_a_time = asyncio.Lock()
        self._parked = Parked(settings.snapshot_folder())
        self._deaths = Deaths(settings, self._parked)
        IN_FLIGHT.set_function(lambda: self._in_flight)
        IN_FLIGHT_BYTES.set_function(lambda: self._in_flight_bytes)

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        return self._worker.pid if self._worker else None

    def not_ready(self) -> str | None:
        """None while the worker is up."""
        return None if self._up else "the worker is starting"

    async def __aenter__(self) -> Self:
        self._jobs = [asyncio.create_task(job()) for job in (self._live, self._feed, self._pump.run)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopping = True
        for job in (*self._jobs, *self._fetching):
            job.cancel()
        await asyncio.wait(self._jobs)
        if self._worker:
            await self._worker.end()

    async def run(self) -> None:
        """Work until cancelled, then drain; raises when the worker keeps dying or an event cannot be published."""
        try:
            done, _ = await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
            for job in done:
                job.result()
        except asyncio.CancelledError:
            await self._drain()
            raise

    async def _drain(self) -> None:
        self._stopping = True
        await self._notify()
        if not self._up or self._worker is None:
            return
        self._flush(self._worker)
        self._worker.send(Snapshot())
        try:
            await asyncio.wait_for(self._pump.done.wait(), DRAIN_S)
        except TimeoutError:
            log.warning("not drained in time, the last snapshot stands", extra={"seconds": DRAIN_S})

    # the port

    async def learn(self, event: OutcomeObserved, at: Position) -> None:
        """Hand over an outcome; waits while too many are on their way."""
        if not self._up or self._full():
            await self._until(lambda: self._up and not self._full())
        partition, offset = at.partition, at.offset
        if self._stopping or offset <= self._handled.get(partition, -1):
            return
        self._handled[partition] = offset
        waiting = self._buffer[partition]
        if not self._parked.holds(partition, offset, event.id):
            waiting.append((event.loop, outcome_of(event, offset, at.timestamp, at.size)))
            self._in_flight += 1
            self._in_flight_bytes += at.size
        self._buffered.set()

    def _full(self) -> bool:
        limits = self._settings
        return self._in_flight >= limits.in_flight or self._in_flight_bytes >= limits.in_flight_bytes

    def follow(self, state: LoopState) -> None:
        """Pass a loop's state on; a worker that starts later gets all of them."""
        if self._worker:
            self._worker.send(Follow(state))

    async def on_drift(self, event: DriftDetected, partition: int, offset: int) -> list[Event]:
        """The run of an alert."""
        answer = await self._ask(lambda n: OnDrift(n, partition, offset, event))
        if answer.behind:
            raise Behind(f"the outcomes up to offset {event.data.offset} are not learned yet")
        self._next_alert[partition] = offset + 1
        return [answer.request] if answer.request else []

    async def request_run(self, loop: str, key: str, reason: str) -> RunRequested | None:
        """A person's run."""
        answer = await self._ask(lambda n: Request(n, loop, key, reason))
        if answer.behind:
            raise Behind(f"the outcomes of {loop} are being learned again")
        return answer.request

    async def open(self, partition: int) -> Opened:
        """Take up a partition at assignment: where to go on. Waits for the worker and the broker."""
        while not self._stopping:
            await self._until(lambda: self._up)
            try:
                if self._worker:
                    opened = await self._opened(self._worker, partition)
                    self._handled[partition] = opened.next_offset - 1
                    self._next_alert[partition] = opened.next_alert
                    return opened
            except Unavailable as e:
                log.warning("partition not taken up, trying again", extra={"partition": partition, "reason": e.detail})
            await asyncio.sleep(0.1)
        raise LearnersAway("the service is stopping")

    # inside

    async def _ask(self, message: Callable[[int], OnDrift | Request]) -> Answer:
        if self._stopping or not self._up or self._worker is None:
            raise LearnersAway("the learners are starting or stopping; try again")
        self._number += 1
        self._flush(self._worker)
        number = self._number
        answer = await self._answers.numbered(self._worker, message(number), number)
        if answer.request:
            self._runs.requested(answer.request)
        return answer

    async def _opened(self, worker: Worker, partition: int) -> Opened:
        topics = OutcomeObserved.topic, DriftDetected.topic
        end, alerts_end = [await self._engine.end_offset(topic, partition) for topic in topics]
        if worker is not self._worker:  # it died meanwhile, and would never answer
            raise LearnersAway("the worker has died; it is being replaced")
        message = Open(partition, end, alerts_end, self._runs.all(), self._runs.ended())
        return await self._answers.opened(worker, message, partition)

    async def _live(self) -> None:
        """Keep a worker alive: start it, read its answers until it goes, start the next."""
        while True:
            self._deaths.forget_place()
            worker = await self._start(self._settings)
            WORKER_STARTS.inc()
            self._worker = worker
            reading, taking_up = asyncio.create_task(self._read(worker)), asyncio.create_task(self._take_up(worker))
            try:
                await asyncio.wait([reading, taking_up], return_when=asyncio.FIRST_COMPLETED)
                if taking_up.done():
                    with suppress(LearnersAway):
                        taking_up.result()
                await reading
            finally:
                reading.cancel()
                taking_up.cancel()
                await asyncio.wait([reading, taking_up])
            await self._mourn(worker)
            if self._stopping:
                return

    async def _mourn(self, worker: Worker) -> None:
        self._worker, self._taken_up = None, False
        self._closed.clear()
        self._hold()
        self._answers.gone()
        await worker.end()
        if self._stopping:
            self._pump.done.set()
            return
        await asyncio.sleep(await self._deaths.another(worker.pid, self._history, self._pump))

    def _hold(self) -> None:
        """Nothing is handed over until the log is caught up with; what waits here is read from there."""
        self._up, self._in_flight, self._in_flight_bytes = False, 0, 0
        self._buffer.clear()

    async def _take_up(self, worker: Worker) -> None:
        """Bring a new worker to where the last one was: states, snapshots, then the log up to what was handed over."""
        for state in self._loops.all():
            worker.send(Follow(state))
        async with self._one_at_a_time:
            for partition in list(self._handled):
                await self._bring_up(worker, partition)
        self._taken_up = True
        await self._go_on()

    async def _bring_up(self, worker: Worker, partition: int) -> None:
        opened, after = await self._opened(worker, partition), self._handled[partition] + 1
        for at in range(opened.next_offset, after, CHUNK):
            upto = min(at + CHUNK, after)
            worker.send(Learn(partition, await self._outcomes(partition, at, upto), upto))
            await worker.drained()
        heard = self._next_alert[partition]
        worker.send(Remind(partition, await self._history.alerts(partition, opened.next_alert, heard)))

    async def _without(self, worker: Worker, refused: Refused) -> None:
        """Park an outcome that the worker raised over, and have its partition learned again without it."""
        partition, offset = refused.partition, refused.offset
        reason = f"learning failed: {refused.reason}"
        await self._parked.park(self._history, self._pump, partition, offset, reason)
        async with self._one_at_a_time:
            if worker is not self._worker:
                return
            await self._bring_up(worker, partition)
        self._closed[partition] -= 1
        await self._go_on()

    async def _go_on(self) -> None:
        self._up = self._taken_up and not any(self._closed.values())
        await self._notify()

    async def _outcomes(self, partition: int, start: int, stop: int) -> list[tuple[str, Outcome]]:
        return self._parked.without(partition, await self._history.outcomes(partition, start, stop))

    async def _read(self, worker: Worker) -> None:
        while (message := await worker.receive()) is not None:
            match message:
                case Opened() | Answer():
                    self._answers.take(message)
                case Wanted():
                    self._meanwhile(self._fetch(worker, message))
                case Refused():
                    self._closed[message.partition] += 1
                    self._hold()
                    self._meanwhile(self._without(worker, message))
                case _:
                    self._note(message)
                    await self._pump.put(message)
                    if isinstance(message, Learned) and message.outcomes:
                        OUTCOMES.inc(message.outcomes)
                        self._in_flight = max(0, self._in_flight - message.outcomes)
                        self._in_flight_bytes = max(0, self._in_flight_bytes - message.size)
                        await self._notify()

    def _note(self, message: Any) -> None:
        """What a worker asked for before it died is not asked for by the next, though it is not on the log yet."""
        for event in message.events if isinstance(message, Learned) else ():
            if isinstance(event, RunRequested):
                self._runs.requested(event)

    def _meanwhile(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._fetching.add(task)
        task.add_done_callback(self._fetched)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("the worker was not given what it waits for", extra={"reason": repr(error)})

    async def _fetch(self, worker: Worker, wanted: Wanted) -> None:
        found = await self._outcomes(wanted.partition, wanted.start, wanted.stop)
        worker.send(Fill(wanted, [outcome for loop, outcome in found if loop == wanted.loop]))

    async def _feed(self) -> None:
        while True:
            await self._buffered.wait()
            if max(map(len, self._buffer.values()), default=0) < BATCH:
                await asyncio.sleep(self._settings.linger_ms / 1000)
            await self._until(lambda: self._up)
            if self._worker:
                self._flush(self._worker)
                await self._worker.drained()

    def _flush(self, worker: Worker) -> None:
        self._buffered.clear()
        for partition, outcomes in self._buffer.items():
            for i in range(0, len(outcomes) or 1, BATCH):
                last = i + BATCH >= len(outcomes)
                worker.send(Learn(partition, outcomes[i : i + BATCH], self._handled[partition] + 1 if last else 0))
        self._buffer.clear()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._stopping or condition())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
