"""The keyed store: a keyed state that is also a unit of work, the same on every engine."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

from everloop_schemas.envelope import Event
from everloop_shared.errors import InputRejected, Unavailable
from everloop_shared.messaging.keyed.batch_order import BatchOrder, TopicOrder
from everloop_shared.messaging.keyed.index import IndexRule
from everloop_shared.messaging.keyed.log_copy import APPLIED, ORDER, LogCopy
from everloop_shared.messaging.keyed.state import (
    MAX_STATE_BYTES,
    Change,
    Changelog,
    LogPosition,
    StoredValue,
    storage_key,
)
from everloop_shared.messaging.keyed.storage import Storage
from everloop_shared.messaging.routes import Partition, Position, Publisher


class KeyedStore:
    """Implements `KeyedState`, and `routes.UnitOfWork` around batches of records.

    Engines attach a storage that outlives batches, the publisher of outputs and the changelog; without them it is a
    plain state in memory. Values, the index of them (by `rule`) and the position in the changelog up to which both are
    complete are written to the storage together. Of compacted topics only the last event per key of a batch is
    published. `ordered` is for outputs that depend on how the topics interleave: then the order is logged before the
    outputs are published, and a batch that was interrupted is handled in the same order again (`batch_order`, decision
    0012). `layout` names the form of values and rule: a storage of another layout is not used.
    """

    def __init__(self, name: str, ordered: bool = False, rule: IndexRule | None = None, layout: str = "1") -> None:
        self.name, self.layout = name, layout
        self._copy = LogCopy(rule)
        self.index = self._copy.index
        self.position, self.forget = self._copy.position, self._copy.forget
        self.keys, self.prefixes = self._copy.keys, self._copy.prefixes
        self.batch_order = BatchOrder()
        self._ordered = ordered
        self._abandoned = False
        self._session = self._unit_session = 0
        self._owned: frozenset[int] | None = None
        self._publisher: Publisher | None = None
        self._changelog: Changelog | None = None
        self._read: dict[tuple[int, str], StoredValue | None] = {}
        self._changed: dict[tuple[int, str], StoredValue] = {}
        self._events: list[Event] = []
        self._next: dict[Partition, int] = {}
        self._applied: dict[Partition, int] = {}
        self._lock = asyncio.Lock()

    def attach(self, publisher: Publisher, storage: Storage | None = None, changelog: Changelog | None = None) -> None:
        """Set the engine's publisher, storage and changelog."""
        self._publisher, self._changelog = publisher, changelog
        if storage is not None:
            self._read.clear()
            self._copy.attach(storage)

    @property
    def storage(self) -> Storage:
        """Where what was committed lies."""
        return self._copy.storage

    def set_owned(self, partitions: Iterable[int]) -> None:
        """Whose keys are all here, from now on; without a call, those of every partition."""
        self._owned = frozenset(partitions)

    def owns(self, partition: int) -> bool:
        """Whether a key of this partition that is not found has no value: it is ours, and its state is restored."""
        return not self._abandoned and (self._owned is None or partition in self._owned)

    # for engines: recovery

    def restore(
        self, changes: Iterable[Change], read_to: Mapping[int, LogPosition] | None = None, left: int = 0
    ) -> None:
        """Apply changes read from the changelog, in its order; `read_to` are the positions of the last of them.

        `left` is how many more there are in their partition, at most.
        """
        self._undo()  # of a unit of work that was abandoned
        try:
            self._copy.restore(changes, read_to or {}, left)
        except BaseException:
            self.index.reset()
            raise

    def finish_restore(self, partitions: Collection[int]) -> None:
        """The changelog is read to its end, and these partitions are ours: drop what is left of the session before."""
        self._abandoned = False
        self._applied.clear()
        self._copy.trust()
        self.batch_order.restore({p: self._copy.order(p) for p in partitions})

    def abandon(self) -> None:
        """The partitions are revoked: commit nothing until `finish_restore`; another replica may own them by now."""
        self._abandoned = True
        self._session += 1

    # for handlers

    def has_applied(self, key: str, at: Position) -> bool:
        """Whether the state of `key` already contains the effect of the record at this position."""
        for entry in (self._entry(key, at.partition), self._entry(APPLIED, at.partition)):
            if entry and entry.offsets.get(at.topic, -1) >= at.offset:
                return True
        return False

    def get(self, key: str, at: Position) -> bytes | None:
        """The value, None where there is none."""
        entry = self._entry(key, at.partition)
        return entry.value if entry else None

    def applied(self, key: str, at: Position) -> int:
        """The highest offset of a record that the state of `key` contains, -1 where it has none."""
        entry = self._entry(key, at.partition)
        return max(entry.offsets.values(), default=-1) if entry else -1

    def put(self, key: str, value: bytes, at: Position) -> None:
        """Set the value, as of this record."""
        if len(value) > MAX_STATE_BYTES:
            # Here, not when the batch is written: following records must not see it, and nothing is published yet.
            raise InputRejected(
                f"the state of {key!r} does not fit a record: {len(value):,} of {MAX_STATE_BYTES:,} bytes"
            )
        self._change(key, at, value)

    def delete(self, key: str, at: Position) -> None:
        """Delete the key; `has_applied` stays true for its records up to here."""
        self._change(key, at, None)

    def _change(self, key: str, at: Position, value: bytes | None) -> None:
        before = self._entry(key, at.partition)
        offsets = dict(before.offsets) if before else {}
        if at.topic:
            offsets[at.topic] = at.offset
        self._changed.pop((at.partition, key), None)  # the last change becomes durable last
        self._changed[at.partition, key] = after = StoredValue(offsets, value)
        self._stage(at.partition, key, before, after)

    def _stage(self, partition: int, key: str, before: StoredValue | None, after: StoredValue | None) -> None:
        if key not in (APPLIED, ORDER):
            self.index.stage(partition, key, before, after)

    def items(self) -> Iterator[tuple[int, str, bytes]]:
        """Partition, key and value of everything committed in our partitions."""
        return (item for item in self._copy.items() if self._holds(item[0]))

    def find(self, key: str, partition: int) -> bytes | None:
        """The committed value of a key, None where it has none or another replica has its partition."""
        stored = self._copy.get(partition, key) if self._holds(partition) else None
        return stored.value if stored else None

    def _holds(self, partition: int) -> bool:
        return self._owned is None or partition in self._owned

    def _entry(self, key: str, partition: int) -> StoredValue | None:
        place = partition, key
        if place in self._changed:
            return self._changed[place]
        if place not in self._read:
            self._read[place] = self._copy.get(partition, key)
        return self._read[place]

    # the unit of work

    async def __aenter__(self) -> KeyedStore:
        await self._lock.acquire()
        self._unit_session = self._session
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            if exc[0] is None:
                await self._commit()
        finally:
            self._undo()
            self._events, self._next = [], {}
            self._lock.release()

    def _undo(self) -> None:
        """Drop what is not written."""
        if self._changed:
            self.index.reset()
        self._changed, self._read = {}, {}

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A block whose changes are undone when it raises."""
        before, undo_index = dict(self._changed), self.index.savepoint()
        try:
            yield
        except BaseException:
            self._changed = before
            undo_index()
            raise

    async def record(self, events: Sequence[Event], offsets: dict[Partition, int]) -> None:
        """Add events and offsets to this unit of work."""
        self._events += events
        self._next |= offsets

    async def offsets(self) -> dict[Partition, int]:
        """Nothing: the engine continues at its own commits, and `has_applied` tells which records to skip."""
        return {}

    async def relay(self, publisher: Publisher) -> None:
        """Nothing: outputs are published before the state is written."""

    async def settle(self) -> None:
        """Nothing: the next batch begins at once."""

    async def _commit(self) -> None:
        orders = self.batch_order.orders(self._next) if self._ordered else {}
        if events := _last_of_compacted(self._events):
            assert self._publisher is not None, "attach an engine first"
            self.batch_order.begin(orders)
            order_changes = [_order_change(p, order) for p, order in orders.items()]
            logged = await self._append(order_changes)
            self._copy.write({name: value for _, name, value in order_changes}, logged)
            await self._publisher.publish(events)
        applied = self._applied | {tp: offset - 1 for tp, offset in self._next.items()}
        changes = self._changes(applied)
        logged = await self._append(changes)
        self._copy.write({name: value for _, name, value in changes} | self.index.rows(), logged)
        self.index.commit()
        self._changed = {}
        self._applied = applied
        self.batch_order.finish(self._next)

    async def _append(self, changes: Sequence[Change]) -> dict[int, LogPosition]:
        self._check_owned()
        if not changes or not self._changelog:
            return {}
        counts = Counter(partition for partition, _, _ in changes)
        try:
            offsets = await self._changelog(changes)
        except BaseException:
            self._copy.doubt(counts)
            raise
        self._check_owned()
        now_ms = int(time.time() * 1000)
        return {
            partition: LogPosition(offset, now_ms, now_ms)
            for partition, offset in offsets.items()
            if self._copy.continues(partition, offset - counts[partition])
        }

    def _check_owned(self) -> None:
        if self._abandoned or self._unit_session != self._session:
            raise Unavailable("the partitions were taken away during a batch")

    def _changes(self, applied: dict[Partition, int]) -> list[Change]:
        """Values, then the applied offsets of partitions with deletions, then the tombstones.

        Kafka keeps this order within a partition. So after a crash in between, a key has its own offsets (and no value,
        where it was deleted), or those of its partition apply to it.
        """
        values = [(p, storage_key(p, k), e.encode()) for (p, k), e in self._changed.items()]
        tombstones = [(p, storage_key(p, k), None) for (p, k), e in self._changed.items() if e.value is None]
        applied_offsets = []
        for partition in {p for p, _, _ in tombstones}:
            before = self._entry(APPLIED, partition)
            offsets = dict(before.offsets) if before else {}
            for (topic, p), offset in applied.items():
                if p == partition:
                    offsets[topic] = max(offset, offsets.get(topic, -1))
            applied_offsets.append((partition, storage_key(partition, APPLIED), StoredValue(offsets, b"").encode()))
        return [*values, *applied_offsets, *tombstones]


def _order_change(partition: int, order: TopicOrder) -> Change:
    return partition, storage_key(partition, ORDER), StoredValue(dict(order), b"").encode()


def _last_of_compacted(events: Sequence[Event]) -> list[Event]:
    """The events, without those of compacted topics that a later event with the same key replaces."""
    last = {(e.topic.name, e.key()): i for i, e in enumerate(events) if e.topic.compacted}
    return [e for i, e in enumerate(events) if not e.topic.compacted or last[e.topic.name, e.key()] == i]
