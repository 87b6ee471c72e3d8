"""The joins of the partitions in their keyed state, within limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from everloop_feature.domain.join import Join
from everloop_feature.domain.loops import ActiveLoops, loop_of
from everloop_feature.handlers.cleanup import Cleanup
from everloop_feature.ports import KeyedState, Metrics
from everloop_shared.messaging.keyed.index import Entry, Total
from everloop_shared.messaging.routes import Position

EVICTIONS_PER_RECORD = 100
"""Evictions after one record, at most, so that a limit that was lowered is reached step by step."""
PREDICTIONS, UNMATCHED, OVERDUE = "predictions", "unmatched", "overdue"
"""The tables of the index, in the order in which their joins expire. Their groups are loops; of predictions those that
have their label are a group of their own, named with `LABELLED`."""
LABELLED = "+"


@dataclass(frozen=True)
class JoinLimits:
    """Predictions, and labels without one, per partition, and the bytes of each."""

    predictions: Total
    unmatched: Total


def join_entries(key: str, value: bytes) -> Sequence[Entry]:
    """Where a join stands in the index."""
    entries = list[Entry]()
    join, loop = Join.load(value), loop_of(key)
    due = max(0, join.due_ms)
    if join.prediction:
        entries.append(Entry(PREDICTIONS, loop + LABELLED if join.truth is not None else loop, due, len(value)))
    elif join.waiting:
        entries.append(Entry(UNMATCHED, loop, due, len(value)))
    if join.overdue:
        entries.append(Entry(OVERDUE, "", due, 0))
    return entries


@dataclass
class JoinTable:
    """Loads, saves and evicts joins. Predictions, with or without labels, and labels without a prediction
    (`unmatched`) have limits of their own: neither takes room from the other.

    A label leaves in two steps. It is made overdue and saved so; the next sweep releases it as a dead letter, when that
    is durable. So it never both becomes a dead letter and joins.

    Beyond a limit, the loop with the largest share evicts: joins whose prediction has its label first, then the
    oldest. So no loop evicts joins of another one that stays within its fair share.
    """

    state: KeyedState
    loops: ActiveLoops
    metrics: Metrics
    limits: JoinLimits
    cleanup: Cleanup = field(init=False)
    _read: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.cleanup = Cleanup(self.state, self.loops.may_have_remains)

    def restored(self) -> None:
        """The state was read back: begin as after a start."""
        self.cleanup.clear()
        self._read.clear()

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
        self.state.put(key, join.dump(), at)
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

    def overdue(self, partition: int, most: int) -> list[str]:
        """The first keys with labels that the next sweep releases."""
        return self.state.index.keys(partition, OVERDUE, "", most)

    def expire(self, at: Position, most: int) -> None:
        """Delete what expired by `at.timestamp`, or make it overdue where labels wait; `most` of each group."""
        for table in (PREDICTIONS, UNMATCHED):
            for group in self.state.index.groups(at.partition, table):
                for key in self.state.index.keys(at.partition, table, group, most, at.timestamp):
                    join = self.load(key, at)
                    if join and (join.waiting or join.overdue):
                        self._make_overdue(key, at)
                    else:
                        self.state.delete(key, at)

    def delete_ended(self, at: Position, most: int) -> None:
        """Delete joins of lifetimes that have ended, `most` at a time."""
        for key in self.cleanup.take(at.partition, most):
            value = self.state.get(key, at)
            if value is not None and self._has_ended(key, Join.load(value)):
                self.state.delete(key, at)

    def report_size(self, partition: int) -> None:
        """Update the gauges of a partition."""
        for name, table in (("predictions", PREDICTIONS), ("labels", UNMATCHED)):
            self.metrics.set_joins(partition, name, *self.state.index.total(partition, table))

    def _has_ended(self, key: str, join: Join) -> bool:
        life = self.loops.life(loop_of(key))
        return life == 0 or 0 < join.revision < life

    def _evict(self, at: Position) -> None:
        for table, limit, evict in (
            (PREDICTIONS, self.limits.predictions, self._evict_prediction),
            (UNMATCHED, self.limits.unmatched, self._make_overdue),
        ):
            for _ in range(EVICTIONS_PER_RECORD):
                if (key := self._next_eviction(at.partition, table, limit)) is None:
                    break
                evict(key, at)

    def _next_eviction(self, partition: int, table: str, limit: Total) -> str | None:
        """The key to evict next; None within both limits."""
        index = self.state.index
        total = index.total(partition, table)
        if total.keys <= limit.keys and total.size <= limit.size:
            return None
        shares: dict[str, Total] = {}
        for group, share in index.groups(partition, table).items():
            loop = group.removesuffix(LABELLED)
            shares[loop] = shares.get(loop, Total()).plus(share)
        by_count = total.keys > limit.keys
        loop = max(shares, key=lambda loop: shares[loop].keys if by_count else shares[loop].size)
        return index.first(partition, table, loop + LABELLED) or index.first(partition, table, loop)

    def _evict_prediction(self, key: str, at: Position) -> None:
        """Delete a prediction, but not labels of its id that are overdue."""
        value = self.state.get(key, at)
        if value is None:
            return
        join = Join.load(value)
        if join.truth is None:
            self.metrics.count_unjoined(loop_of(key), "evicted")
        if join.overdue:
            self.state.put(key, join.drop_prediction().dump(), at)
        else:
            self.state.delete(key, at)

    def _make_overdue(self, key: str, at: Position) -> None:
        """Labels that wait under this key join no more."""
        value = self.state.get(key, at)
        if value is not None and (join := Join.load(value)).waiting:
            self.state.put(key, join.give_up_waiting().dump(), at)
