"""What training needs: the learners, a queue of outcomes to them, a record of runs, and a worker."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.search import SearchFinished, SearchRequested, TrialFinished
from everloop_schemas.training import RunFinished, RunRequested

if TYPE_CHECKING:
    from collections.abc import Sequence

    from everloop_learning.data_set_columns import DescribedDataSet
    from everloop_learning.outcome import Outcome
    from everloop_models.formats.onnx.interface import GivenInterface
    from everloop_models.intake import CheckedModel, FeatureNames
    from everloop_schemas.envelope import Fields
    from everloop_schemas.feature import OutcomeObserved
    from everloop_schemas.loop import LoopSpec
    from everloop_schemas.loop_parts import ModelSpec
    from everloop_schemas.training import StoredModel
    from everloop_shared.messaging.routes import Position
    from everloop_training.domain.data_set_selection import Selection
    from everloop_training.domain.known_search import KnownSearch
    from everloop_training.domain.run_reply import RunReply
    from everloop_training.domain.search_reply import SearchReply
    from everloop_training.domain.trained_model import TrainedModel


class OutcomeQueue(Protocol):
    """The outcomes on their way to the learners; what follows from them is published by the worker's client."""

    async def put(self, partition: int, loop: str, outcome: Outcome) -> None:
        """Add the next outcome of a partition. Waits while too much is in flight; idempotent by offset."""


class PersonalValues(Protocol):
    """Opens the personal values of outcomes."""

    async def outcome(self, event: OutcomeObserved, at: Position) -> Outcome:
        """The outcome in a record, `erased` where its key was destroyed. Raises Unavailable while the keys are away."""


class Learners(Protocol):
    """The learners of every loop, in another process. Requests wait for their answer."""

    def apply_loop_state(self, state: LoopState) -> None:
        """Pass on a loop's new state. Never waits."""

    async def request_drift_run(self, alert: DriftDetected, at: Position) -> RunReply:
        """The run that an alert starts, the same for the same alert; none during the cooldown.

        Raises Unavailable while the worker restarts.
        """

    async def request_manual_run(self, loop: str, key: str, reason: str) -> RunReply:
        """Start a run that a person requests, the same for the same key; none before the loop's first outcome.

        Raises Unavailable while the worker restarts.
        """

    async def request_search(self, loop: str, model: int, key: str, reason: str) -> SearchReply:
        """The search that a person requests, of the outcomes so far; none while there are too few.

        Raises Unavailable while the worker restarts.
        """

    async def request_tuned_run(self, search: SearchRequested, model: ModelSpec, reason: str) -> RunReply:
        """Start a line for the model that a search found, the same for the same search.

        None where the loop does not have the searched model any more. Raises Unavailable while the worker restarts or
        learns the log again.
        """

    async def take_model(self, loop: str, run: str, model: TrainedModel) -> RunFinished | None:
        """Let a run's line predict with the model that it has trained, from the next outcome on.

        Returns the end of the run: this one, or the one that it had before, which counts; None where the run is not
        known here; the run log has the end too. Waits while the log is learned again, at most for a while. Idempotent.
        Raises Unavailable.
        """

    async def fail_run(self, loop: str, run: str, reason: str) -> RunFinished | None:
        """End a run that has trained no model; returns as `take_model`, and raises the same."""


class RunLog(Protocol):
    """The runs of all loops, as their topics say. Idempotent, in memory, bounded."""

    def add_requested(self, event: RunRequested) -> None: ...
    def add_finished(self, event: RunFinished) -> None: ...
    def forget(self, loop: str) -> None:
        """Forget the runs of a loop whose lifetime has ended."""

    def of(self, loop: str) -> list[tuple[RunRequested, RunFinished | None]]:
        """A loop's runs, oldest first."""

    def open_trainings(self, loop: str | None = None) -> list[RunRequested]:
        """The runs that ask for a model trained on a data set and have not ended, oldest first; of one loop or all.

        The newest of a line is the one to train.
        """


class SearchLog(Protocol):
    """The searches of all loops and their trials, as their topics say. Idempotent, in memory, bounded."""

    def add_requested(self, event: SearchRequested) -> SearchRequested:
        """Add a search; returns the first request of it, which counts."""

    def add_trial(self, event: TrialFinished) -> None: ...
    def add_finished(self, event: SearchFinished) -> None: ...
    def forget(self, loop: str) -> None:
        """Forget the searches of a loop whose lifetime has ended."""

    def of(self, loop: str) -> list[KnownSearch]:
        """A loop's searches, oldest first."""

    def find(self, loop: str, search: str) -> KnownSearch | None:
        """A search of a loop, if it is known."""

    def open(self) -> list[SearchRequested]:
        """The searches of all loops that have not ended, oldest first."""


class ModelIntake(Protocol):
    """Takes in models that were trained elsewhere. The computation happens outside the event loop."""

    async def check(
        self, data: bytes, given: GivenInterface, spec: LoopSpec, features: FeatureNames, samples: Sequence[Fields]
    ) -> CheckedModel:
        """The model as it can be served on a loop with these features. Raises ModelRefused and Overloaded."""

    async def put(self, loop: str, version: str, model: CheckedModel) -> StoredModel:
        """Store it under a version's name; idempotent. Raises Unavailable."""


class Worker(Protocol):
    """A worker: handles messages in order and answers. After it has exited, another is started."""

    @property
    def pid(self) -> int: ...
    def send(self, message: Any) -> None:
        """Send a message. Never waits, never raises: to a worker that has exited it is lost."""

    async def drained(self) -> None:
        """Wait until the pipe has room again."""

    async def receive(self) -> Any:
        """The next answer, None once the worker has exited."""

    async def end(self) -> None:
        """End the worker and wait until it has exited. Idempotent."""


class StoredDataSet(NamedTuple):
    """A data set, and a file of its rows, a line of JSON each, at its beginning."""

    data_set: DescribedDataSet
    file: BinaryIO


class DataSetStore(Protocol):
    """Reads data sets from the log into files."""

    def open(self, loop: str, selection: Selection) -> AbstractAsyncContextManager[StoredDataSet]:
        """A data set until the block ends; raises a ServiceError where there is none, or too much is being read."""
