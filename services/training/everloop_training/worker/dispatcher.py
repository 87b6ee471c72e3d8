"""Handles the messages of the service one by one: the learners of the open partitions work on them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from everloop_schemas.registry import LoopState
from everloop_schemas.training import ModelTrained
from everloop_shared.personal import describe
from everloop_training.domain.run_reply import RunReply
from everloop_training.domain.search_reply import SearchReply
from everloop_training.domain.trained_model import EndReply
from everloop_training.worker.learners.dependencies import LearnerDependencies
from everloop_training.worker.learners.line_registry import HistoryGap
from everloop_training.worker.learners.loop_learner import LoopLearner
from everloop_training.worker.partition_learners import PartitionLearners
from everloop_training.worker.protocol import messages
from everloop_training.worker.protocol.progress import SNAPSHOT, OutcomeInProgress
from everloop_training.worker.snapshots import PartitionState, Snapshots

log = logging.getLogger(__name__)
ALL_RECENT_BYTES = 64_000_000
"""Bytes of recent outcomes that the workers hold, for lines that start a short way back, in equal parts for loops."""


class WorkerDispatcher:
    """All learners of a process, by partition and loop. `handle` yields the answers to a message, in order."""

    def __init__(
        self,
        dependencies: LearnerDependencies,
        snapshots: Snapshots,
        snapshot_outcomes: int,
        snapshot_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        in_progress: OutcomeInProgress | None = None,
        recent_bytes: int = ALL_RECENT_BYTES,
    ) -> None:
        self._dependencies = replace(dependencies, recent_bytes=self._recent_bytes)
        self._all_recent_bytes = recent_bytes
        self._snapshots, self._clock = snapshots, clock
        self._snapshot_outcomes, self._snapshot_seconds = snapshot_outcomes, snapshot_seconds
        self._in_progress = in_progress or OutcomeInProgress()
        self._states: dict[str, LoopState] = {}
        self._partitions: dict[int, PartitionLearners] = {}
        self._requested_history: set[messages.HistoryNeeded] = set()

    def find(self, loop: str) -> LoopLearner | None:
        """The learner of a loop, None where its partition is not open or it has no outcomes yet."""
        return next((p.learners[loop] for p in self._partitions.values() if loop in p.learners), None)

    def _recent_bytes(self) -> int:
        return self._all_recent_bytes // max(1, sum(len(p.learners) for p in self._partitions.values()))

    def handle(self, message: Any) -> Iterator[Any]:
        """Work on one message. An error over an outcome costs that outcome and nothing else."""
        try:
            yield from self._dispatch(message)
        except Exception as e:
            if isinstance(message, messages.OpenPartition):
                raise
            yield from self._on_error(message, e)
        self._in_progress.clear()

    def _on_error(self, message: Any, error: Exception) -> Iterator[Any]:
        """Close the partition of the outcome in progress: its snapshot and a log without the outcome restore it."""
        is_personal = _has_personal_values(message)
        about = {"message_type": type(message).__name__}
        log.error("message not handled", extra=about, exc_info=None if is_personal else error)
        said = describe(error) if is_personal else f"{error!r:.500}"
        if in_progress := self._in_progress.current:
            partition, offset = in_progress
            self._partitions.pop(partition, None)
            self._requested_history = {h for h in self._requested_history if h.partition != partition}
            yield messages.OutcomeFailed(partition, offset, said)
        if isinstance(message, messages.RequestDriftRun | messages.RequestManualRun | messages.RequestTunedRun):
            yield messages.RunReplied(message.number, RunReply(None))
        elif isinstance(message, messages.RequestSearch):
            yield messages.SearchReplied(message.number, SearchReply(None, behind=True))
        elif isinstance(message, messages.TakeModel | messages.FailRun):
            yield messages.RunEnded(message.number, EndReply(None, behind=True))

    def _dispatch(self, message: Any) -> Iterator[Any]:
        match message:
            case messages.LearnOutcomes():
                yield from self._learn(message)
            case messages.ApplyLoopState(state):
                yield from self._apply_loop_state(state)
            case messages.OpenPartition():
                yield from self._open(message)
            case messages.RequestDriftRun():
                yield from self._request_drift_run(message)
            case messages.ReplayAlerts():
                yield from self._replay_alerts(message)
            case messages.RequestManualRun() | messages.RequestTunedRun():
                yield from self._request_run(message)
            case messages.RequestSearch():
                yield from self._request_search(message)
            case messages.TakeModel() | messages.FailRun():
                yield from self._end_run(message)
            case messages.LearnHistory():
                yield from self._learn_history(message)
            case messages.WriteSnapshots():
                for partition in [p for p in self._partitions.values() if p.changed]:
                    yield from self._write_snapshot(partition)
                yield messages.AllSnapshotsWritten()

    def _open(self, message: messages.OpenPartition) -> Iterator[Any]:
        partition = self._partitions.get(message.partition)
        if partition is None:
            state = self._restore(message.partition, message.end)
            next_alert = min(
                state.next_alert, message.alerts_end
            )  # the topic may have been restored without its alerts
            partition = PartitionLearners(message, state.next_offset, next_alert, state.learners, self._clock())
            self._partitions[message.partition] = partition
        partition.opened = message
        for learner in partition.learners.values():  # another replica may have gone on with the partition meanwhile
            learner.live = False
            partition.adopt_runs(learner)
        partition.go_live()
        yield messages.PartitionOpened(message.partition, partition.next_offset, partition.next_alert)
        for learner in partition.learners.values():
            yield from self._take_events(learner)

    def _restore(self, partition: int, end: int) -> PartitionState:
        self._in_progress.mark(partition, SNAPSHOT)
        state = self._snapshots.load(partition, end)
        state = state._replace(learners={n: one for n, one in state.learners.items() if not self._is_over(one)})
        try:
            for loop, learner in state.learners.items():
                learner.attach(self._dependencies)
                if loop in self._states:
                    learner.on_loop_state(self._states[loop])
        except Exception as e:
            log.error("snapshot not used, learning from the log", extra={"partition": partition}, exc_info=e)
            state = PartitionState(0, 0, {})
        self._in_progress.clear()
        return state

    def _is_over(self, learner: LoopLearner) -> bool:
        """Whether the lifetime of the loop that a learner learns has ended."""
        now = self._states.get(learner.loop)
        return now is not None and (now.data.deleted or now.data.life > learner.state.data.life)

    def _apply_loop_state(self, state: LoopState) -> Iterator[Any]:
        known = self._states.get(state.loop)
        if known is None or known.data.sequence < state.data.sequence:
            self._states[state.loop] = state
        learner = self.find(state.loop)
        if learner is not None and self._is_over(learner):
            partition = self._partitions[learner.partition]
            del partition.learners[state.loop]
            yield from self._write_snapshot(partition)  # the snapshot that counts still holds the learner
        elif learner is not None:
            learner.on_loop_state(state)
            yield from self._take_events(learner)

    def _learn(self, message: messages.LearnOutcomes) -> Iterator[Any]:
        partition, learned = self._partitions.get(message.partition), dict[str, LoopLearner]()
        processed = messages.OutcomesProcessed(len(message.outcomes), sum(o.size for _, o in message.outcomes))
        if partition is None:
            yield processed  # the partition was closed after they were sent: they are sent again
            return
        for loop, outcome in message.outcomes:
            self._in_progress.mark(message.partition, outcome.offset)
            if outcome.offset >= partition.next_offset and (learner := self._find_or_start(loop, partition)):
                learner.learn(outcome)
                learned[loop] = learner
                partition.next_offset = outcome.offset + 1
        self._in_progress.clear()
        partition.next_offset = max(partition.next_offset, message.upto)
        partition.go_live()
        for learner in learned.values():
            yield from self._take_events(learner)
        yield processed
        partition.unsaved, partition.changed = partition.unsaved + len(message.outcomes), True
        seconds = self._clock() - partition.saved_at
        if partition.unsaved >= self._snapshot_outcomes or seconds >= self._snapshot_seconds:
            yield from self._write_snapshot(partition)

    def _find_or_start(self, loop: str, partition: PartitionLearners) -> LoopLearner | None:
        state = self._states.get(loop)
        if loop not in partition.learners and state is not None and not state.data.deleted:
            learner = LoopLearner(state, partition.opened.partition, self._dependencies)
            partition.learners[loop] = learner
            partition.adopt_runs(learner)
        return partition.learners.get(loop)

    def _take_events(self, learner: LoopLearner) -> Iterator[Any]:
        try:
            events = learner.take_events()
        except Exception as e:  # this loop's events are lost, the other loops publish theirs
            log.error("events of a loop not built", extra={"loop": learner.loop}, exc_info=e)
            return
        last = max((i for i, event in enumerate(events) if isinstance(event, ModelTrained)), default=-1)
        for part in (events[: last + 1], events[last + 1 :]):  # a version is on the log before the end of its run
            if part:
                yield messages.EventsProduced(part)
        for gap in learner.lines.gaps():
            needed = messages.HistoryNeeded(learner.loop, learner.partition, *gap)
            if needed not in self._requested_history:
                self._requested_history.add(needed)
                yield needed

    def _request_drift_run(self, message: messages.RequestDriftRun) -> Iterator[Any]:
        learner = self.find(message.alert.loop)
        if learner is None or learner.is_behind(message.alert.data.offset):
            yield messages.RunReplied(message.number, RunReply(None, behind=True))
            return
        yield messages.RunReplied(message.number, RunReply(learner.drift_runs.on_drift(message.alert)))
        if partition := self._partitions.get(message.partition):
            partition.next_alert = message.offset + 1
        yield from self._take_events(learner)

    def _replay_alerts(self, message: messages.ReplayAlerts) -> Iterator[Any]:
        partition = self._partitions.get(message.partition)
        if partition is None:
            return
        for offset, alert in message.alerts:
            partition.next_alert = offset + 1
            if learner := partition.learners.get(alert.loop):
                learner.drift_runs.replay(alert)
        for learner in partition.learners.values():
            learner.drift_runs.start_waiting()
            yield from self._take_events(learner)

    def _request_run(self, message: messages.RequestManualRun | messages.RequestTunedRun) -> Iterator[Any]:
        learner, run = self.find(message.loop), None
        if learner.is_behind(0) if learner else isinstance(message, messages.RequestTunedRun):
            yield messages.RunReplied(message.number, RunReply(None, behind=True))
            return
        if learner:
            match message:
                case messages.RequestManualRun():
                    run = learner.runs.start_manual(message.key, message.reason)
                case messages.RequestTunedRun(search=search, model=model, reason=reason):
                    run = learner.runs.start_tuned(search, model, reason)
        yield messages.RunReplied(message.number, RunReply(run))
        if learner:
            yield from self._take_events(learner)

    def _request_search(self, message: messages.RequestSearch) -> Iterator[Any]:
        learner = self.find(message.loop)
        if learner is not None and (not learner.live or learner.is_behind(0)):
            yield messages.SearchReplied(message.number, SearchReply(None, behind=True))
            return
        search = learner.searches.request(message.model_number, message.key, message.reason) if learner else None
        yield messages.SearchReplied(message.number, SearchReply(search))

    def _end_run(self, message: messages.TakeModel | messages.FailRun) -> Iterator[Any]:
        """End a run, and reply once what follows from it is handed over to be published."""
        reply, learner = EndReply(None), self.find(message.loop)
        if learner is not None:
            match message:
                case messages.TakeModel():
                    reply = learner.take_model(message.run, message.model)
                case messages.FailRun():
                    reply = learner.fail_run(message.run, message.reason)
            yield from self._take_events(learner)
        yield messages.RunEnded(message.number, reply)

    def _learn_history(self, message: messages.LearnHistory) -> Iterator[Any]:
        needed = message.needed
        self._requested_history.discard(needed)
        if learner := self.find(needed.loop):
            learner.learn_history(HistoryGap(needed.line, needed.start, needed.stop), message.outcomes)
            yield from self._take_events(learner)

    def _write_snapshot(self, partition: PartitionLearners) -> Iterator[Any]:
        """Write a snapshot; where that fails, the one before counts, and a crash costs more learning."""
        partition.unsaved, partition.saved_at, partition.changed = 0, self._clock(), True
        number = partition.opened.partition
        state = PartitionState(partition.next_offset, partition.next_alert, partition.learners)
        try:
            path = self._snapshots.write(number, state)
        except Exception as e:
            log.warning("snapshot not written", extra={"partition": number, "reason": repr(e)[:500]})
            return
        yield messages.SnapshotWritten(str(path), str(self._snapshots.final(number)), partition.next_offset)


def _has_personal_values(message: Any) -> bool:
    """Whether a message brought personal values, which an error may name."""
    match message:
        case messages.LearnOutcomes():
            return any(outcome.opened for _, outcome in message.outcomes)
        case messages.LearnHistory():
            return any(outcome.opened for outcome in message.outcomes)
    return False
