"""The worker's desk: takes the service's messages one by one and lets the learners work on them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from everloop_models import ModelBroken, OnlineModel, save, verify_and_load
from everloop_models.store import ArtifactStore, name_in
from everloop_schemas.registry import LoopState
from everloop_shared.clock import system_clock
from everloop_training.at_work import SNAPSHOT, AtWork
from everloop_training.domain.learner import LoopLearner
from everloop_training.domain.lines import SavedVersion
from everloop_training.domain.roster import Gap
from everloop_training.domain.voice import Tools
from everloop_training.messages import (
    Answer,
    Done,
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
    SnapshotWritten,
    Wanted,
)
from everloop_training.settings import TrainingSettings
from everloop_training.snapshots import PartitionState, Snapshots

log = logging.getLogger(__name__)
RINGS_BYTES = 64_000_000
"""Records of outcomes at hand in a process, for lines that start lately; the loops share it alike."""


class Desk:
    """All learners of a process, by partition and loop. `handle` yields the answers to a message, in order."""

    def __init__(
        self,
        tools: Tools,
        snapshots: Snapshots,
        every_outcomes: int,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
        at_work: AtWork | None = None,
    ) -> None:
        self._tools = replace(tools, ring_bytes=lambda: RINGS_BYTES // max(1, len(self._learners)))
        self._snapshots, self._clock = snapshots, clock
        self._at_work = at_work or AtWork()
        self._every_outcomes, self._every_s = every_outcomes, every_s
        self._states: dict[str, LoopState] = {}
        self._learners: dict[str, LoopLearner] = {}
        self._opened: dict[int, Open] = {}
        self._next: dict[int, int] = {}
        self._next_alert: dict[int, int] = {}
        self._unsaved: dict[int, int] = {}
        self._saved_at: dict[int, float] = {}
        self._asked: set[Wanted] = set()

    def handle(self, message: Any) -> Iterator[Any]:
        """Work on one message. An error over an outcome costs that outcome and nothing else."""
        try:
            yield from self._work(message)
        except Exception as e:
            if isinstance(message, Open):
                raise
            yield from self._failed(message, e)
        self._at_work.clear()

    def _failed(self, message: Any, error: Exception) -> Iterator[Any]:
        in_hand = self._at_work.in_hand
        log.error("failed over a message", extra={"message_type": type(message).__name__}, exc_info=error)
        if in_hand:
            self._close(in_hand[0])
            yield Refused(*in_hand, f"{error!r:.500}")
        if isinstance(message, OnDrift | Request):
            yield Answer(message.number, None)

    def _close(self, partition: int) -> None:
        """What is half done there is dropped: its snapshot and the log come to the same without what failed."""
        self._learners = {loop: one for loop, one in self._learners.items() if one.partition != partition}
        self._asked = {wanted for wanted in self._asked if wanted.partition != partition}
        for kept in (self._next, self._next_alert, self._unsaved, self._saved_at):
            kept.pop(partition, None)

    def _work(self, message: Any) -> Iterator[Any]:
        match message:
            case Learn():
                yield from self._learn(message)
            case Follow(state):
                yield from self._follow(state)
            case Open():
                yield from self._open(message)
            case OnDrift():
                yield from self._on_drift(message)
            case Remind():
                yield from self._remind(message)
            case Request():
                yield from self._request(message)
            case Fill():
                yield from self._fill(message)
            case Snapshot():
                for partition in list(self._unsaved):
                    yield from self._save(partition)
                yield Done()

    def _open(self, message: Open) -> Iterator[Any]:
        partition = message.partition
        if partition not in self._next:
            state = self._restored(partition, message.end)
            self._next[partition] = state.next_offset
            self._next_alert[partition] = min(state.next_alert, message.alerts_end)  # after a restore there are none
            self._saved_at[partition] = self._clock()
            self._learners |= state.learners
        self._opened[partition] = message
        for learner in self._of(partition):  # also where the partition comes back: another replica went on meanwhile
            learner.live = False
            self._prepare(learner, message)
        self._enliven(partition)
        yield Opened(partition, self._next[partition], self._next_alert[partition])
        for learner in self._of(partition):
            yield from self._said(learner)

    def _restored(self, partition: int, end: int) -> PartitionState:
        self._at_work.on(partition, SNAPSHOT)
        state = self._snapshots.load(partition, end)
        state = state._replace(learners={n: one for n, one in state.learners.items() if not self._ended(one)})
        try:
            for loop, learner in state.learners.items():
                learner.restored(self._tools)
                if loop in self._states:
                    learner.follow(self._states[loop])
        except Exception as e:
            log.error("snapshot not used, learning from the log", extra={"partition": partition}, exc_info=e)
            state = PartitionState(0, 0, {})
        self._at_work.clear()
        return state

    def _prepare(self, learner: LoopLearner, opened: Open) -> None:
        runs = [r for r in opened.known if r.loop == learner.loop and r.revision >= learner.state.data.life]
        try:
            learner.adopt(runs, opened.finished)
        except Exception as e:  # a run on the log that cannot be taken up must not cost the partition
            log.error("runs not taken up", extra={"loop": learner.loop}, exc_info=e)

    def _learner(self, loop: str, partition: int) -> LoopLearner | None:
        state = self._states.get(loop)
        if loop not in self._learners and state is not None and not state.data.deleted:
            learner = LoopLearner(state, partition, self._tools)
            self._learners[loop] = learner
            self._prepare(learner, self._opened[partition])
        return self._learners.get(loop)

    def _of(self, partition: int) -> list[LoopLearner]:
        return [learner for learner in self._learners.values() if learner.partition == partition]

    def _follow(self, state: LoopState) -> Iterator[Any]:
        known = self._states.get(state.loop)
        if known is None or known.data.sequence < state.data.sequence:
            self._states[state.loop] = state
        learner = self._learners.get(state.loop)
        if learner is not None and self._ended(learner):
            del self._learners[state.loop]
            if learner.partition in self._opened:  # the snapshot that counts holds it still
                yield from self._save(learner.partition)
        elif learner is not None:
            learner.follow(state)
            yield from self._said(learner)

    def _ended(self, learner: LoopLearner) -> bool:
        """Whether the life of the loop that a learner learns is over."""
        now = self._states.get(learner.loop)
        return now is not None and (now.data.deleted or now.data.life > learner.state.data.life)

    def _learn(self, message: Learn) -> Iterator[Any]:
        partition, touched = message.partition, dict[str, LoopLearner]()
        size = sum(outcome.size for _, outcome in message.outcomes)
        if partition not in self._next:
            yield Learned((), len(message.outcomes), size)  # closed since it was sent: it comes again
            return
        for loop, outcome in message.outcomes:
            self._at_work.on(partition, outcome.offset)
            if outcome.offset >= self._next[partition] and (learner := self._learner(loop, partition)):
                learner.learn(outcome)
                touched[loop] = learner
                self._next[partition] = outcome.offset + 1
        self._at_work.clear()
        self._next[partition] = max(self._next[partition], message.upto)
        self._enliven(partition)
        for learner in touched.values():
            yield from self._said(learner)
        yield Learned((), len(message.outcomes), size)
        self._unsaved[partition] = self._unsaved.get(partition, 0) + len(message.outcomes)
        since = self._clock() - self._saved_at[partition]
        if self._unsaved[partition] >= self._every_outcomes or since >= self._every_s:
            yield from self._save(partition)

    def _enliven(self, partition: int) -> None:
        """What is due in the present waits until the log as of the start is learned."""
        if self._next[partition] >= self._opened[partition].end:
            for learner in self._of(partition):
                learner.live = True

    def _said(self, learner: LoopLearner) -> Iterator[Any]:
        try:
            events = learner.take()
        except Exception as e:  # what it wanted to say is lost, and the other loops say theirs
            log.error("a loop's events cannot be made", extra={"loop": learner.loop}, exc_info=e)
            return
        if events:
            yield Learned(events)
        for gap in learner.gaps():
            wanted = Wanted(learner.loop, learner.partition, *gap)
            if wanted not in self._asked:
                self._asked.add(wanted)
                yield wanted

    def _on_drift(self, message: OnDrift) -> Iterator[Any]:
        learner = self._learners.get(message.event.loop)
        if learner is None or learner.behind(message.event.data.offset):
            yield Answer(message.number, None, behind=True)
            return
        yield Answer(message.number, learner.on_drift(message.event))
        self._next_alert[message.partition] = message.offset + 1
        yield from self._said(learner)

    def _remind(self, message: Remind) -> Iterator[Any]:
        if message.partition not in self._next:
            return
        for offset, event in message.alerts:
            self._next_alert[message.partition] = offset + 1
            if learner := self._learners.get(event.loop):
                learner.remind(event)
        for learner in self._of(message.partition):
            learner.answer_waiting()
            yield from self._said(learner)

    def _request(self, message: Request) -> Iterator[Any]:
        learner = self._learners.get(message.loop)
        if learner is not None and learner.behind(0):
            yield Answer(message.number, None, behind=True)
            return
        yield Answer(message.number, learner.request(message.key, message.reason) if learner else None)
        if learner:
            yield from self._said(learner)

    def _fill(self, message: Fill) -> Iterator[Any]:
        wanted = message.wanted
        self._asked.discard(wanted)
        if learner := self._learners.get(wanted.loop):
            learner.fill(Gap(wanted.line, wanted.start, wanted.stop), message.outcomes)
            yield from self._said(learner)

    def _save(self, partition: int) -> Iterator[Any]:
        """Write a snapshot; when that fails the old one stands, and more will be learned again after a crash."""
        self._unsaved[partition], self._saved_at[partition] = 0, self._clock()
        learners = {learner.loop: learner for learner in self._of(partition)}
        state = PartitionState(self._next[partition], self._next_alert[partition], learners)
        try:
            path = self._snapshots.write(partition, state)
        except Exception as e:
            log.warning("snapshot not written", extra={"partition": partition, "reason": repr(e)[:500]})
            return
        yield SnapshotWritten(str(path), str(self._snapshots.final(partition)), self._next[partition])


def desk_of(settings: TrainingSettings) -> Desk:
    """A desk as the settings say."""
    store, at_work = ArtifactStore(settings.artifact_url), AtWork(settings.at_work_file())
    tools = Tools(
        system_clock,
        _keeper(store),
        lambda saved: verify_and_load(store.get(name_in(saved.uri), saved.size), saved.sha256, saved.format),
        at_work.on,
    )
    snapshots = Snapshots(settings.snapshot_folder())
    return Desk(tools, snapshots, settings.snapshot_outcomes, settings.snapshot_seconds, at_work=at_work)


def _keeper(store: ArtifactStore) -> Callable[[str, str, OnlineModel], SavedVersion]:
    def keep(loop: str, version: str, model: OnlineModel) -> SavedVersion:
        try:
            artifact = save(model)
        except Exception as e:
            raise ModelBroken(f"cannot be pickled: {e!r}") from e
        uri = store.put(store.name(loop, version, artifact.sha256), artifact.data)
        return SavedVersion(version, uri, artifact.sha256, artifact.size, model.format)

    return keep
