"""The workers of this replica: each partition is learned by one of them, and so are its loops."""

from __future__ import annotations

from everloop_learning.loops import KnownLoops
from everloop_learning.outcome import Outcome
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.search import SearchRequested
from everloop_schemas.training import RunFinished
from everloop_shared.messaging.routes import Engine, Position
from everloop_training.adapters.personal import PersonalOutcomes
from everloop_training.adapters.runs import MemoryRunLog
from everloop_training.adapters.searches import MemorySearchLog
from everloop_training.adapters.supervisor import StartWorker, WorkerSupervisor
from everloop_training.adapters.worker_client import WorkerClient
from everloop_training.domain.run_reply import RunReply
from everloop_training.domain.search_reply import SearchReply
from everloop_training.domain.trained_model import TrainedModel
from everloop_training.settings import TrainingSettings
from everloop_training.worker.protocol.messages import PartitionOpened


class LearnerWorkers:
    """The OutcomeQueue and Learners ports over all workers of this replica.

    Partition p is learned by worker p mod N. Replicas have ranges of partitions, so that each has work for all of its
    workers. A snapshot is of one partition, and of no worker: N may be another one after a restart.
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
    ) -> None:
        self._engine, logs = engine, (loops, runs, searches)
        parts = engine, personal, start
        self.all = [WorkerSupervisor(settings, *logs, *parts, n) for n in range(settings.workers)]

    def learn(self, loop: str) -> bool:
        """Whether a loop is learned here."""
        partition = self._partition(loop)
        return partition in self._of(partition).feeder.handed_over

    async def open(self, partition: int) -> PartitionOpened:
        """Open a partition at its worker, and return where to go on. Waits for the worker and the broker."""
        return await self._of(partition).open(partition)

    async def put(self, partition: int, loop: str, outcome: Outcome) -> None:
        """Add an outcome; as `OutcomeFeeder.put` waits and raises."""
        await self._of(partition).feeder.put(partition, loop, outcome)

    def apply_loop_state(self, state: LoopState) -> None:
        """Pass on a loop's state to every worker: a record counts in the partition in which it lies."""
        for worker in self.all:
            worker.client.apply_loop_state(state)

    async def request_drift_run(self, alert: DriftDetected, at: Position) -> RunReply:
        """The run of an alert."""
        return await self._of(at.partition).client.request_drift_run(alert, at)

    async def request_manual_run(self, loop: str, key: str, reason: str) -> RunReply:
        """A person's run."""
        return await self._client_of(loop).request_manual_run(loop, key, reason)

    async def request_search(self, loop: str, model: int, key: str, reason: str) -> SearchReply:
        """A person's search."""
        return await self._client_of(loop).request_search(loop, model, key, reason)

    async def request_tuned_run(self, search: SearchRequested, model: ModelSpec, reason: str) -> RunReply:
        """The run of the model that a search found."""
        return await self._client_of(search.loop).request_tuned_run(search, model, reason)

    async def take_model(self, loop: str, run: str, model: TrainedModel) -> RunFinished | None:
        """A run has trained a model."""
        return await self._client_of(loop).take_model(loop, run, model)

    async def fail_run(self, loop: str, run: str, reason: str) -> RunFinished | None:
        """A run has trained no model."""
        return await self._client_of(loop).fail_run(loop, run, reason)

    def _of(self, partition: int) -> WorkerSupervisor:
        return self.all[partition % len(self.all)]

    def _client_of(self, loop: str) -> WorkerClient:
        return self._of(self._partition(loop)).client

    def _partition(self, loop: str) -> int:
        return self._engine.partition_for(OutcomeObserved.topic, loop.encode())
