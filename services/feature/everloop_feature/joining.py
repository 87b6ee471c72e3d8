"""What feature does with predictions and the labels and feedback on them: outcomes, or dead letters with a reason."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from everloop_feature import records
from everloop_feature.deadlines import Deadlines
from everloop_feature.errors import (
    LabelCrowdedOut,
    LabelTooLate,
    NothingToLearn,
    PredictionNeverCame,
    TimeOutOfBounds,
)
from everloop_feature.events import joined, observed, parked, refused
from everloop_feature.join import Join, Waiting
from everloop_feature.leaving import Leaving
from everloop_feature.loops import Loops, loop_of
from everloop_feature.ports import KeyedState, Notes
from everloop_feature.words import heard, too_late
from everloop_features.times import ON_THE_LOG, USUAL_TIMES, TimeLimits
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import LabelReceived
from everloop_schemas.serving import PredictionMade
from everloop_shared.clock import Clock, system_clock
from everloop_shared.messaging.routes import Position

AT_ONCE = 100
"""Keys that one record may push out, so that a limit that was lowered is reached step by step."""
BREATH = 200
"""Keys that leave before others get their turn."""


@dataclass
class JoinHandlers:
    """Predictions, and what is said of them: keyed by loop/prediction_id.

    `predictions` and `strangers` say what is kept of each partition: predictions with or without their labels, and
    labels of ids that no prediction has (yet). Neither takes room from the other.
    """

    loops: Loops
    joins: KeyedState
    notes: Notes
    predictions: Deadlines
    strangers: Deadlines
    times: TimeLimits = USUAL_TIMES
    clock: Clock = system_clock
    sweep_size: int = 5_000
    leaving: Leaving = field(default_factory=Leaving, init=False)
    _marked: dict[int, dict[str, None]] = field(default_factory=lambda: defaultdict(dict), init=False)
    _read: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.loops.ended.append(lambda loop: self.leaving.add([*self.predictions.of(loop), *self.strangers.of(loop)]))

    async def on_prediction_made(self, event: PredictionMade, at: Position) -> list[Event]:
        """A prediction: outcomes for the labels that came before it."""
        key = event.key().decode()
        within_ms = self.loops.spec(event.loop, event.revision).label.within_s * 1000
        join = self._load(key, at)
        if self.joins.seen(key, at) or (join and join.prediction):
            return []
        waiting = join.waiting if join else ()
        join = (join or Join(at.timestamp + round(within_ms))).predicted(event)
        caused: list[Event] = []
        for word in waiting:
            join, events = self._hear(join, event, word.label, word.at)
            caused += events
        self.strangers.discard(at.partition, key)
        self._keep(key, join, at)
        return caused

    async def on_label_received(self, event: LabelReceived, at: Position) -> list[Event]:
        """A label or feedback: an outcome where the prediction is there, else it waits."""
        key = event.key().decode()
        within_ms = self.loops.spec(event.loop, event.revision).label.within_s * 1000
        if self.joins.seen(key, at):
            return []
        event = records.labelled(self.loops, event)
        if wrong := self.times.wrong(event.time, self.clock(), ON_THE_LOG):
            return [refused(event, at, TimeOutOfBounds(f"time {wrong}"))]
        join = self._load(key, at) or Join(at.timestamp + round(within_ms))
        if made := join.made:
            join, caused = self._hear(join, made, event, at)
        else:
            join, dropped = join.wait(Waiting.of(event, at))
            caused = [self._crowded_out(word, key, "later ones for the same prediction") for word in dropped]
        self._keep(key, join, at)
        return caused

    async def sweep(self, at: Position) -> list[Event]:
        """Let what is due by `at.timestamp` go, and the labels that were pushed out.

        A label that leaves is marked first and is a dead letter in the sweep after, when the mark is safe: so it can
        never be a dead letter and join after all.
        """
        partition, caused = at.partition, list[Event]()
        if at.timestamp:  # before anything was read, records may come again that only the states of their keys know
            self._read.add(partition)
        for key in self.leaving.take(partition, self.sweep_size):
            self._end(key, at)
        marked = self._marked[partition]
        for n, key in enumerate(list(marked)[: self.sweep_size]):
            del marked[key]
            caused += self._leave(key, at)
            if n % BREATH == BREATH - 1:
                await asyncio.sleep(0)
        for kept in (self.predictions, self.strangers):
            for key in kept.due(partition, at.timestamp, self.sweep_size):
                self._expire(key, at)
        self._note(partition)
        return caused

    def restored(self, joins: Iterable[tuple[int, str, bytes]]) -> None:
        """The state was read back: `joins` is all there is (partition, key, value)."""
        for part in (self.predictions, self.strangers, self.leaving, self._marked, self._read):
            part.clear()
        found = []
        for partition, key, value in joins:
            join = Join.load(value)
            if self.loops.lived(loop_of(key)):
                self.leaving.add([(partition, key)])
            if join.overdue:
                self._marked[partition][key] = None
            if join.prediction or join.waiting:
                table = self.predictions if join.prediction else self.strangers
                found.append((join.due_ms, partition, key, len(value), join.truth is not None, table))
        for due_ms, partition, key, size, settled, table in sorted(found, key=lambda f: f[0]):  # as they came
            table.keep(partition, key, due_ms, size, settled)

    def _load(self, key: str, at: Position) -> Join | None:
        """The join of a key in its loop's present life."""
        value = self.joins.get(key, at)
        join = Join.load(value) if value is not None else None
        return None if join is None or self._past(key, join) else join

    def _past(self, key: str, join: Join) -> bool:
        life = self.loops.life(loop_of(key))
        return life == 0 or 0 < join.revision < life

    def _end(self, key: str, at: Position) -> None:
        """Forget what is left of a life of its loop that has ended."""
        value = self.joins.get(key, at)
        if value is not None and self._past(key, Join.load(value)):
            self.joins.delete(key, at)
            self.predictions.discard(at.partition, key)
            self.strangers.discard(at.partition, key)

    def _keep(self, key: str, join: Join, at: Position) -> None:
        value = join.dump()
        self.joins.put(key, value, at)
        if join.prediction:
            self.predictions.keep(at.partition, key, join.due_ms, len(value), join.truth is not None)
        elif join.waiting:
            self.strangers.keep(at.partition, key, join.due_ms, len(value))
        if at.partition in self._read:
            self._make_room(at)

    def _make_room(self, at: Position) -> None:
        for _ in range(AT_ONCE):
            if (key := self.predictions.excess(at.partition)) is None:
                break
            self._forget(key, at)
        for _ in range(AT_ONCE):
            if (key := self.strangers.excess(at.partition)) is None:
                break
            self._mark(key, at)

    def _forget(self, key: str, at: Position) -> None:
        """Part with a prediction; looked at again in the sweep, where its batch may have been rolled back."""
        join = self._load(key, at)
        self.predictions.discard(at.partition, key)
        self._marked[at.partition][key] = None
        if join is None or join.prediction is None:
            return
        if join.truth is None:
            self.notes.unjoined(loop_of(key), "evicted")
        if join.overdue:
            self.joins.put(key, replace(join, prediction=None).dump(), at)
        else:
            self.joins.delete(key, at)

    def _mark(self, key: str, at: Position) -> None:
        """What waits for a prediction will leave: from now on it joins no more."""
        join = self._load(key, at)
        self.strangers.discard(at.partition, key)
        self._marked[at.partition][key] = None
        if join and join.waiting:
            self.joins.put(key, join.overdue_now().dump(), at)

    def _leave(self, key: str, at: Position) -> list[Event]:
        join = self._load(key, at)
        if join is None:
            return []
        letters = [self._given_up(word, key, due=join.due_ms <= at.timestamp) for word in join.overdue]
        if join.prediction or join.waiting:  # the prediction came after all, or the batch that parted with it failed
            self._keep(key, replace(join, overdue=()), at)
        else:
            self.joins.delete(key, at)
        return letters

    def _expire(self, key: str, at: Position) -> None:
        join = self._load(key, at)
        if join and (join.waiting or join.overdue):
            self._mark(key, at)
        elif join:
            self.joins.delete(key, at)
        self.predictions.discard(at.partition, key)
        self.strangers.discard(at.partition, key)

    def _hear(self, join: Join, made: PredictionMade, label: LabelReceived, at: Position) -> tuple[Join, list[Event]]:
        spec = self.loops.spec(label.loop)
        if too_late(made, label, spec.label.within_s):
            self.notes.unjoined(label.loop, "late")
            reason = f"late: of {label.time}, but labels may come within {spec.label.within} of the observation"
            return join, [refused(label, at, LabelTooLate(reason))]
        said = made.data.prediction
        if label.data.correct is not None and not records.is_label(self.loops, made.loop, made.revision, said):
            reason = f"the prediction {said!r} is no label of the loop; send `label`"
            return join, [refused(label, at, NothingToLearn(reason))]
        try:
            join, outcome = heard(join, spec.task, made, label)
        except ValueError as e:
            return join, [refused(label, at, NothingToLearn(str(e)))]
        if outcome is None:
            return join, []
        self.notes.outcome(label.loop, label.data.kind)
        seen = observed(made, outcome)
        truth = outcome.truth.label
        tell = truth is not None and self.loops.plan(label.loop).uses_label
        return join, [seen, joined(made, seen, truth)] if tell and truth is not None else [seen]

    def _given_up(self, word: Waiting, key: str, due: bool) -> Event:
        if not due:
            return self._crowded_out(word, key, "others of ids without a prediction")
        self.notes.unjoined(loop_of(key), "never_came")
        return parked(word, key, PredictionNeverCame(f"no prediction of id {_id(key)!r} came in time"))

    def _crowded_out(self, word: Waiting, key: str, by: str) -> Event:
        self.notes.unjoined(loop_of(key), "crowded_out")
        return parked(
            word, key, LabelCrowdedOut(f"no prediction of id {_id(key)!r} has come, and {by} needed the room")
        )

    def _note(self, partition: int) -> None:
        for table, kept in (("predictions", self.predictions), ("labels", self.strangers)):
            self.notes.kept(partition, table, kept.count(partition), kept.size(partition))


def _id(key: str) -> str:
    return key.partition("/")[2]
