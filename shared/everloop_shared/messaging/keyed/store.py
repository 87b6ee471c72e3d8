"""The keyed store: a keyed state that is also a unit of work, the same on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager

from everloop_schemas.envelope import Event
from everloop_shared.errors import InputRejected, Unavailable
from everloop_shared.messaging.keyed.batch_order import BatchOrder, TopicOrder
from everloop_shared.messaging.keyed.state import MAX_STATE_BYTES, Change, Changelog, StoredValue, storage_key
from everloop_shared.messaging.routes import Partition, Position, Publisher

APPLIED, ORDER = "", "\n"
"""Two keys per partition are the store's own: up to which offsets records of deleted keys were applied, and in which
order the topics of the last batch were handled."""


class KeyedStore:
    """Implements `KeyedState`, and `routes.UnitOfWork` around batches of records.

    Engines attach a mapping that outlives batches, the publisher of outputs and the changelog; without them it is a
    plain state in memory. Of compacted topics only the last event per key of a batch is published. `ordered` is for
    outputs that depend on how the topics interleave: then the order is logged before the outputs are published, and a
    batch that was interrupted is handled in the same order again (`batch_order`, decision 0012).
    """

    def __init__(self, name: str, ordered: bool = False) -> None:
        self.name = name
        self.data: MutableMapping[bytes, bytes] = {}
        self.batch_order = BatchOrder()
        self._ordered = ordered
        self._abandoned = False
        self._owned: frozenset[int] | None = None
        self._publisher: Publisher | None = None
        self._changelog: Changelog | None = None
        self._changed: dict[tuple[int, str], StoredValue] = {}
        self._events: list[Event] = []
        self._next: dict[Partition, int] = {}
        self._applied: dict[Partition, int] = {}
        self._lock = asyncio.Lock()

    def attach(self, publisher: Publisher, data: MutableMapping[bytes, bytes], changelog: Changelog | None) -> None:
        """Set the engine's publisher, mapping and changelog."""
        self._publisher, self.data, self._changelog = publisher, data, changelog

    def set_owned(self, partitions: Iterable[int]) -> None:
        """Whose keys are all here, from now on; without a call, those of every partition."""
        self._owned = frozenset(partitions)

    def owns(self, partition: int) -> bool:
        """Whether a key of this partition that is not found has no value: it is ours, and its state is restored."""
        return not self._abandoned and (self._owned is None or partition in self._owned)

    def restore(self, changes: Iterable[Change]) -> None:
        """Apply changes read from the changelog: the newest value per key, which is not always the last one there.

        A write whose ack did not come in time may reach the log after later writes.
        """
        for _, name, raw in changes:
            known = self.data.get(name)
            if raw is None:
                self._set(name, None)
            elif known is None or not StoredValue.decode(raw).is_older_than(StoredValue.decode(known)):
                self._set(name, raw)

    def _set(self, name: bytes, value: bytes | None) -> None:
        """Keep the last written key last in `data`."""
        self.data.pop(name, None)
        if value is not None:
            self.data[name] = value

    def finish_restore(self, partitions: Iterable[int]) -> None:
        """The changelog is read to its end: drop what is left of the session before."""
        self._abandoned = False
        self._applied.clear()
        self.batch_order.restore({p: self._order(p) for p in partitions})

    def abandon(self) -> None:
        """The partitions are revoked: commit nothing until `finish_restore`; another replica may own them by now."""
        self._abandoned = True

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
        self._changed[at.partition, key] = StoredValue(offsets, value)

    def items(self) -> Iterator[tuple[int, str, bytes]]:
        """Partition, key and value of everything committed, in the order in which it was written."""
        for name, raw in self.data.items():
            partition, _, key = name.decode().partition("|")
            value = StoredValue.decode(raw).value if raw else None
            if value is not None and key not in (APPLIED, ORDER):
                yield int(partition), key, value

    def find(self, key: str, partition: int) -> bytes | None:
        """The committed value of a key."""
        raw = self.data.get(storage_key(partition, key))
        return StoredValue.decode(raw).value if raw else None

    def _order(self, partition: int) -> TopicOrder:
        raw = self.data.get(storage_key(partition, ORDER))
        return list(StoredValue.decode(raw).offsets.items()) if raw else []

    def _entry(self, key: str, partition: int) -> StoredValue | None:
        if (partition, key) in self._changed:
            return self._changed[partition, key]
        raw = self.data.get(storage_key(partition, key))
        return StoredValue.decode(raw) if raw else None

    # the unit of work

    async def __aenter__(self) -> KeyedStore:
        await self._lock.acquire()
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            if exc[0] is None:
                await self._commit()
        finally:
            self._changed, self._events, self._next = {}, [], {}
            self._lock.release()

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A block whose changes are undone when it raises."""
        before = dict(self._changed)
        try:
            yield
        except BaseException:
            self._changed = before
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
            await self._append([_order_change(p, order) for p, order in orders.items()])
            await self._publisher.publish(events)
        applied = self._applied | {tp: offset - 1 for tp, offset in self._next.items()}
        changes = self._changes(applied)
        await self._append(changes)
        self._check_owned()
        for _, name, value in changes:
            self._set(name, value)
        self._applied = applied
        self.batch_order.finish(self._next)

    async def _append(self, changes: Sequence[Change]) -> None:
        self._check_owned()
        if changes and self._changelog:
            await self._changelog(changes)

    def _check_owned(self) -> None:
        if self._abandoned:
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
