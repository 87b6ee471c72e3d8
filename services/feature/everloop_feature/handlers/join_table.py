"""The joins of the partitions in their keyed state, within limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from everloop_feature.domain.cleanup import CleanupQueue
from everloop_feature.domain.join import Join
from everloop_feature.domain.join_index import JoinIndex
from everloop_feature.domain.loops import ActiveLoops, loop_of
from everloop_feature.ports import KeyedState, Metrics
from everloop_shared.messaging.routes import Position

EVICTIONS_PER_RECORD = 100
"""Evictions after one record, at most, so that a limit that was lowered is reached step by step."""


@dataclass
class JoinTable:
    """Loads, saves and evicts joins. Predictions, with or without labels, and labels without a prediction
    (`unmatched`) have limits of their own: neither takes room from the other.

    A label leaves in two steps. It is made overdue and saved so; the next sweep releases it as a dead letter, when that
    is durable. So it never both becomes a dead letter and joins. `_unfinished` has the keys that the next sweep looks
    at again, also those of evicted predictions: the batch that evicted them may have been rolled back.
    """

    state: KeyedState
    loops: ActiveLoops
    metrics: Metrics
    predictions: JoinIndex
    unmatched: JoinIndex
    cleanup: CleanupQueue = field(default_factory=CleanupQueue, init=False)
    _unfinished: dict[int, dict[str, None]] = field(default_factory=lambda: defaultdict(dict), init=False)
    _read: set[int] = field(default_factory=set, init=False)

    def is_applied(self, key: str, at: Position) -> bool:
        """Whether the join reflects the record at this position."""
        return self.state.has_applied(key, at)

    def load(self, key: str, at: Position) -> Join | None:
        """The join of a key in the present lifetime of its loop."""
        value = self.state.get(key, at)
        join = Join.load(value) if value is not None else None
        return None if join is None or self._has_ended(key, join) else join

    def save(self, key: str, join: Join, at: Position) -> None:
        """Save a join, and evict beyond the limits."""
        value = join.dump()
        self.state.put(key, value, at)
        if join.prediction:
            self.unmatched.discard(at.partition, key)
            self.predictions.put(at.partition, key, join.due_ms, len(value), join.truth is not None)
        elif join.waiting:
            self.unmatched.put(at.partition, key, join.due_ms, len(value))
        if at.partition in self._read:
            self._evict(at)

    def delete(self, key: str, at: Position) -> None:
        """Delete a join."""
        self.state.delete(key, at)

    def start_evicting(self, partition: int) -> None:
        """Records of the partition were read: from now on its limits hold.

        Before, records may come again of which only the joins know that they were applied.
        """
        self._read.add(partition)

    def unfinished(self, partition: int, most: int) -> list[str]:
        """The first keys that the next sweep has to look at again."""
        return list(self._unfinished[partition])[:most]

    def finish(self, partition: int, key: str) -> None:
        """The sweep looks at a key now; it is unfinished no more."""
        del self._unfinished[partition][key]

    def expire(self, at: Position, most: int) -> None:
        """Delete what expired by `at.timestamp`, or make it overdue where labels wait; `most` of each index."""
        for index in (self.predictions, self.unmatched):
            for key in index.expired(at.partition, at.timestamp, most):
                join = self.load(key, at)
                if join and (join.waiting or join.overdue):
                    self._make_overdue(key, at)
                elif join:
                    self.state.delete(key, at)
                self._discard(key, at.partition)

    def schedule_cleanup(self, loop: str) -> None:
        """A lifetime of the loop has ended: the next sweeps delete its joins."""
        self.cleanup.add([*self.predictions.keys_of(loop), *self.unmatched.keys_of(loop)])

    def delete_ended(self, at: Position, most: int) -> None:
        """Delete joins of lifetimes that have ended, `most` at a time."""
        for key in self.cleanup.take(at.partition, most):
            value = self.state.get(key, at)
            if value is not None and self._has_ended(key, Join.load(value)):
                self.state.delete(key, at)
                self._discard(key, at.partition)

    def report_size(self, partition: int) -> None:
        """Update the gauges of a partition."""
        for table, index in (("predictions", self.predictions), ("labels", self.unmatched)):
            self.metrics.set_joins(partition, table, index.count(partition), index.bytes(partition))

    def restore(self, joins: Iterable[tuple[int, str, bytes]]) -> None:
        """Rebuild what is in memory from all that is stored: (partition, key, value)."""
        for part in (self.predictions, self.unmatched, self.cleanup, self._unfinished, self._read):
            part.clear()
        found = []
        for partition, key, value in joins:
            join = Join.load(value)
            if self.loops.may_have_remains(loop_of(key)):
                self.cleanup.add([(partition, key)])
            if join.overdue:
                self._unfinished[partition][key] = None
            if join.prediction or join.waiting:
                index = self.predictions if join.prediction else self.unmatched
                found.append((join.due_ms, partition, key, len(value), join.truth is not None, index))
        for due_ms, partition, key, size, labelled, index in sorted(found, key=lambda f: f[0]):  # in order of arrival
            index.put(partition, key, due_ms, size, labelled)

    def _has_ended(self, key: str, join: Join) -> bool:
        life = self.loops.life(loop_of(key))
        return life == 0 or 0 < join.revision < life

    def _discard(self, key: str, partition: int) -> None:
        self.predictions.discard(partition, key)
        self.unmatched.discard(partition, key)

    def _evict(self, at: Position) -> None:
        for index, evict in ((self.predictions, self._evict_prediction), (self.unmatched, self._make_overdue)):
            for _ in range(EVICTIONS_PER_RECORD):
                if (key := index.next_eviction(at.partition)) is None:
                    break
                evict(key, at)

    def _evict_prediction(self, key: str, at: Position) -> None:
        """Delete a prediction, but not labels of its id that are overdue."""
        join = self.load(key, at)
        self.predictions.discard(at.partition, key)
        self._unfinished[at.partition][key] = None
        if join is None or join.prediction is None:
            return
        if join.truth is None:
            self.metrics.count_unjoined(loop_of(key), "evicted")
        if join.overdue:
            self.state.put(key, join.drop_prediction().dump(), at)
        else:
            self.state.delete(key, at)

    def _make_overdue(self, key: str, at: Position) -> None:
        """Labels that wait under this key join no more."""
        join = self.load(key, at)
        self.unmatched.discard(at.partition, key)
        self._unfinished[at.partition][key] = None
        if join and join.waiting:
            self.state.put(key, join.give_up_waiting().dump(), at)
