"""The worker's desk: takes the service's messages one by one and lets the learners work on them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from everloop_models import ArtifactStore, Model, ModelBroken, save, verify_and_load
from everloop_schemas.registry import LoopState
from everloop_shared.clock import system_clock
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
    Remind,
    Request,
    Snapshot,
    SnapshotWritten,
    Wanted,
)
from everloop_training.settings import TrainingSettings
from everloop_training.snapshots import PartitionState, Snapshots

log = logging.getLogger(__name__)


class Desk:
    """All learners of a process, by partition and loop. `handle` yields the answers to a message, in order."""

    def __init__(
        self,
        tools: Tools,
        snapshots: Snapshots,
        every_outcomes: int,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tools, self._snapshots, self._clock = tools, snapshots, clock
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
        """Work on one message."""
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
            state = self._snapshots.load(partition, message.end)
            self._next[partition] = state.next_offset
            self._next_alert[partition] = min(state.next_alert, message.alerts_end)  # after a restore there are none
            self._saved_at[partition] = self._clock()
            for loop, learner in state.learners.items():
                if self._ended(learner):
                    continue
                learner.restored(self._tools)
                self._learners[loop] = learner
                if loop in self._states:
                    learner.follow(self._states[loop])
        self._opened[partition] = message
        for learner in self._of(partition):  # also where the partition comes back: another replica went on meanwhile
            learner.live = False
            self._prepare(learner, message)
        self._enliven(partition)
        yield Opened(partition, self._next[partition], self._next_alert[partition])
        for learner in self._of(partition):
            yield from self._said(learner)

    def _prepare(self, learner: LoopLearner, opened: Open) -> None:
        runs = [r for r in opened.known if r.loop == learner.loop and r.revision >= learner.state.data.life]
        learner.adopt(runs, opened.finished)

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
        for loop, outcome in message.outcomes:
            if outcome.offset >= self._next[partition] and (learner := self._learner(loop, partition)):
                learner.learn(outcome)
                touched[loop] = learner
                self._next[partition] = outcome.offset + 1
        self._enliven(partition)
        for learner in touched.values():
            yield from self._said(learner)
        yield Learned((), len(message.outcomes))
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
        if events := learner.take():
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
        except OSError as e:
            log.warning("snapshot not written", extra={"partition": partition, "reason": str(e)})
            return
        yield SnapshotWritten(str(path), str(self._snapshots.final(partition)), self._next[partition])


def desk_of(settings: TrainingSettings) -> Desk:
    """A desk as the settings say."""
    store = ArtifactStore(settings.artifact_url)
    tools = Tools(system_clock, _keeper(store), lambda saved: verify_and_load(store.get(saved.uri), saved.sha256))
    snapshots = Snapshots(settings.snapshot_folder())
    return Desk(tools, snapshots, settings.snapshot_outcomes, settings.snapshot_seconds)


def _keeper(store: ArtifactStore) -> Callable[[str, str, Model], SavedVersion]:
    def keep(loop: str, version: str, model: Model) -> SavedVersion:
        try:
            artifact = save(model)
        except Exception as e:
            raise ModelBroken(f"cannot be pickled: {e!r}") from e
        uri = store.put(store.name(loop, version, artifact.sha256), artifact.data)
        return SavedVersion(version, uri, artifact.sha256, artifact.size)

    return keep
