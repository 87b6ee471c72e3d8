"""The messages between the service and its worker process: commands to the worker, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from everloop_learning.outcome import Outcome
from everloop_schemas.envelope import Event
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.registry import LoopState
from everloop_schemas.search import SearchRequested
from everloop_schemas.training import RunFinished, RunRequested
from everloop_training.domain.run_reply import RunReply
from everloop_training.domain.search_reply import SearchReply
from everloop_training.domain.trained_model import EndReply, TrainedModel


class OpenPartition(NamedTuple):
    """Restore a partition from its snapshot, or go on with it. `end` and `alerts_end` are the ends of its two topics.

    `runs` are the runs on the log, `ends` those of their ends that are on the log, `searches` the last search of each
    model of a loop. Answered by PartitionOpened.
    """

    partition: int
    end: int
    alerts_end: int
    runs: Sequence[RunRequested]
    ends: Sequence[RunFinished]
    searches: Sequence[SearchRequested] = ()


class ApplyLoopState(NamedTuple):
    """A loop exists, has changed, or was deleted."""

    state: LoopState


class LearnOutcomes(NamedTuple):
    """Outcomes of one partition, in order, each with its loop; the log holds no others before offset `upto`.

    Answered by EventsProduced and OutcomesProcessed.
    """

    partition: int
    outcomes: Sequence[tuple[str, Outcome]]
    upto: int = 0


class RequestDriftRun(NamedTuple):
    """Answer an alert with a run. Answered by RunReplied under this number."""

    number: int
    partition: int
    offset: int
    alert: DriftDetected


class ReplayAlerts(NamedTuple):
    """Alerts that an earlier worker has consumed, each with its offset: those that waited for a cooldown wait again."""

    partition: int
    alerts: Sequence[tuple[int, DriftDetected]]


class RequestManualRun(NamedTuple):
    """Start a run that a person requests. Answered by RunReplied under this number."""

    number: int
    loop: str
    key: str
    reason: str


class RequestSearch(NamedTuple):
    """Request a search of a model that a person wants. Answered by SearchReplied under this number."""

    number: int
    loop: str
    model_number: int
    key: str
    reason: str


class RequestTunedRun(NamedTuple):
    """Start a line for the model that a search found. Answered by RunReplied under this number."""

    number: int
    search: SearchRequested
    model: ModelSpec
    reason: str

    @property
    def loop(self) -> str:
        """The loop that was searched."""
        return self.search.loop


class TakeModel(NamedTuple):
    """A run has trained a model: its line predicts the outcomes from now on with it. Answered by RunEnded."""

    number: int
    loop: str
    run: str
    model: TrainedModel


class FailRun(NamedTuple):
    """A run has trained no model: its line keeps the one that it has. Answered by RunEnded."""

    number: int
    loop: str
    run: str
    reason: str


class HistoryNeeded(NamedTuple):
    """A line needs the outcomes with start <= offset < stop. Answered by LearnHistory."""

    loop: str
    partition: int
    line: str
    start: int
    stop: int


class LearnHistory(NamedTuple):
    """The outcomes that a line needs, as `needed` says."""

    needed: HistoryNeeded
    outcomes: Sequence[Outcome]


class WriteSnapshots(NamedTuple):
    """Write snapshots now, because the service stops. Answered by AllSnapshotsWritten."""


class PartitionOpened(NamedTuple):
    """A partition is open; its outcomes go on at `next_offset`, its alerts at `next_alert`."""

    partition: int
    next_offset: int
    next_alert: int


class RunReplied(NamedTuple):
    """The reply to RequestDriftRun, RequestManualRun or RequestTunedRun."""

    number: int
    reply: RunReply


class SearchReplied(NamedTuple):
    """The reply to RequestSearch."""

    number: int
    reply: SearchReply


class RunEnded(NamedTuple):
    """The reply to TakeModel or FailRun."""

    number: int
    reply: EndReply


class EventsProduced(NamedTuple):
    """Events to publish, in order."""

    events: Sequence[Event]


class OutcomesProcessed(NamedTuple):
    """A number of the outcomes sent, `size` bytes of records, are learned and no longer in flight."""

    outcomes: int
    size: int


class OutcomeFailed(NamedTuple):
    """Learning an outcome raised an error: its partition is closed until an OpenPartition, and a log without it."""

    partition: int
    offset: int
    reason: str


class SnapshotWritten(NamedTuple):
    """A snapshot is at `path`; it counts once it is renamed to `final`, after all events before it are published."""

    path: str
    final: str
    next_offset: int


class AllSnapshotsWritten(NamedTuple):
    """The snapshots of all partitions are written."""


ToPublish = EventsProduced | SnapshotWritten | AllSnapshotsWritten
"""The answers that are handled in order with the events."""
