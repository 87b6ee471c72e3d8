"""Keyed state as a unit of work: what a service remembers per key, the same on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from pydantic_core import from_json, to_json

from everloop_schemas.envelope import Event
from everloop_shared.errors import InputRejected, Unavailable
from everloop_shared.messaging.keyed.batch_order import BatchOrder, TopicOrder
from everloop_shared.messaging.routes import HEADROOM, MAX_MESSAGE_BYTES, Consumer, Engine, Position, Publisher, Route

MAX_STATE_BYTES = MAX_MESSAGE_BYTES - HEADROOM
Change = tuple[int, bytes, bytes | None]
"""Partition, key and new value; None is a tombstone."""
Changelog = Callable[[Sequence[Change]], Awaitable[None]]
"""Makes changes durable, in this order within a partition; returns once the broker has all of them."""


class KeyedState(Protocol):
    """What handlers see of a keyed state. Never blocks; a key belongs to the partition of the record at hand.

    Writes are visible to the records after, and become durable with the batch: outputs first, then the state,
    then the offset. So a record that `has_applied` says was applied has its outputs on the bus already.
    """

    def has_applied(self, key: str, at: Position) -> bool:
        """Whether the state of `key` reflects the record at this position already."""

    def get(self, key: str, at: Position) -> bytes | None:
        """The value, None where there is none."""

    def put(self, key: str, value: bytes, at: Position) -> None:
        """Set the value, as of this record; raises InputRejected where it does not fit a record of the changelog."""

    def delete(self, key: str, at: Position) -> None:
        """Forget the key; its records up to here stay `has_applied`."""


@dataclass(frozen=True)
class _Entry:
    """A value with the last offset of each source topic that it reflects; None for one that was deleted."""

    offsets: dict[str, int]
    value: bytes | None

    def encode(self) -> bytes:
        head = to_json(self.offsets)
        return head if self.value is None else head + b"\n" + self.value

    @classmethod
    def decode(cls, raw: bytes) -> _Entry:
        head, there, value = raw.partition(b"\n")
        return cls(from_json(head), value if there else None)

    def older_than(self, other: _Entry) -> bool:
        """Whether the other reflects all that this one does, and more."""
        known = other.offsets
        return self.offsets != known and all(known.get(t, -1) >= offset for t, offset in self.offsets.items())


def _name(partition: int, key: str) -> bytes:
    return f"{partition}|{key}".encode()


APPLIED, ORDER = "", "\n"
"""The keys of a partition's own entries: the offsets up to which records of deleted keys were applied, and in which
order the topics of the last batch were handled."""


class KeyedStore:
    """A keyed state (`KeyedState`) that is a unit of work (`routes.UnitOfWork`) around batches of records.

    Engines attach what it stands on: a mapping that outlives batches, the publisher of outputs, the changelog.
    Without, it is a plain state in memory. Of compacted topics only the last event per key leaves a batch.
    `ordered` is for outputs that depend on how the topics interleave: the order is then written down before the
    outputs leave, so that a batch that was cut off is handled in the same order again (decision 0012): `turns`.
    """

    def __init__(self, name: str, ordered: bool = False) -> None:
        self.name = name
        self.data: MutableMapping[bytes, bytes] = {}
        self.batch_order = BatchOrder()
        self._ordered = ordered
        self._abandoned = False
        self._publisher: Publisher | None = None
        self._changelog: Changelog | None = None
        self._changed: dict[tuple[int, str], _Entry] = {}
        self._events: list[Event] = []
        self._next: dict[tuple[str, int], int] = {}
        self._applied: dict[tuple[str, int], int] = {}
        self._lock = asyncio.Lock()

    def attach(self, publisher: Publisher, data: MutableMapping[bytes, bytes], changelog: Changelog | None) -> None:
        """Stand on an engine."""
        self._publisher, self.data, self._changelog = publisher, data, changelog

    def restore(self, changes: Iterable[Change]) -> None:
        """Read the changelog back: per key the newest value, which is not always the one written last.

        A write that its owner gave up waiting for may reach the log after those that followed it.
        """
        for _, name, raw in changes:
            known = self.data.get(name)
            if raw is None:
                self._set(name, None)
            elif known is None or not _Entry.decode(raw).older_than(_Entry.decode(known)):
                self._set(name, raw)

    def _set(self, name: bytes, value: bytes | None) -> None:
        """What was written last is last in `data`."""
        self.data.pop(name, None)
        if value is not None:
            self.data[name] = value

    def finish_restore(self, partitions: Iterable[int]) -> None:
        """All of it was read back: what was known of the session before says nothing any more."""
        self._abandoned = False
        self._applied.clear()
        self.batch_order.restore({p: self._order(p) for p in partitions})

    def abandon(self) -> None:
        """The partitions go: until `restored` no unit is finished, because another replica may decide by now."""
        self._abandoned = True

    # what handlers see

    def has_applied(self, key: str, at: Position) -> bool:
        """Whether the state of `key` reflects the record at this position already."""
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
            # Here and not when the batch is written: the records after must not see it, and nothing has left yet.
            raise InputRejected(
                f"the state of {key!r} does not fit a record: {len(value):,} of {MAX_STATE_BYTES:,} bytes"
            )
        self._change(key, at, value)

    def delete(self, key: str, at: Position) -> None:
        """Forget the key; its records up to here stay `has_applied`."""
        self._change(key, at, None)

    def _change(self, key: str, at: Position, value: bytes | None) -> None:
        before = self._entry(key, at.partition)
        offsets = dict(before.offsets) if before else {}
        if at.topic:
            offsets[at.topic] = at.offset
        self._changed.pop((at.partition, key), None)  # what is written last becomes durable last
        self._changed[at.partition, key] = _Entry(offsets, value)

    def items(self) -> Iterator[tuple[int, str, bytes]]:
        """Partition, key and value of everything committed, in the order in which it was written."""
        for name, raw in self.data.items():
            partition, _, key = name.decode().partition("|")
            value = _Entry.decode(raw).value if raw else None
            if value is not None and key not in (APPLIED, ORDER):
                yield int(partition), key, value

    def find(self, key: str, partition: int) -> bytes | None:
        """The committed value of a key."""
        raw = self.data.get(_name(partition, key))
        return _Entry.decode(raw).value if raw else None

    def _order(self, partition: int) -> TopicOrder:
        raw = self.data.get(_name(partition, ORDER))
        return list(_Entry.decode(raw).offsets.items()) if raw else []

    def _entry(self, key: str, partition: int) -> _Entry | None:
        if (partition, key) in self._changed:
            return self._changed[partition, key]
        raw = self.data.get(_name(partition, key))
        return _Entry.decode(raw) if raw else None

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

    async def record(self, events: Sequence[Event], offsets: dict[tuple[str, int], int]) -> None:
        """Add to what leaves with this unit."""
        self._events += events
        self._next |= offsets

    async def offsets(self) -> dict[tuple[str, int], int]:
        """Nothing: the engine's own commits say where to go on, and `has_applied` what to skip."""
        return {}

    async def relay(self, publisher: Publisher) -> None:
        """Nothing: outputs leave before the state."""

    async def _commit(self) -> None:
        orders = self.batch_order.orders(self._next) if self._ordered else {}
        if events := _latest(self._events):
            assert self._publisher is not None, "attach an engine first"
            self.batch_order.begin(orders)
            await self._append([_ordered(p, order) for p, order in orders.items()])
            await self._publisher.publish(events)
        applied = self._applied | {tp: offset - 1 for tp, offset in self._next.items()}
        changes = self._changes(applied)
        await self._append(changes)
        self._check_ours()
        for _, name, value in changes:
            self._set(name, value)
        self._applied = applied
        self.batch_order.finish(self._next)

    async def _append(self, changes: Sequence[Change]) -> None:
        self._check_ours()
        if changes and self._changelog:
            await self._changelog(changes)

    def _check_ours(self) -> None:
        if self._abandoned:
            raise Unavailable("the partitions were taken away in the midst of a batch")

    def _changes(self, applied: dict[tuple[str, int], int]) -> list[Change]:
        """Values, then how far partitions with deletions were applied, then the tombstones.

        Kafka keeps this order in a partition, so a crash anywhere in between leaves a key either with its own
        offsets (without a value, where it was deleted) or covered by its partition's.
        """
        values = [(p, _name(p, k), e.encode()) for (p, k), e in self._changed.items()]
        gone = [(p, _name(p, k), None) for (p, k), e in self._changed.items() if e.value is None]
        covers = []
        for partition in {p for p, _, _ in gone}:
            before = self._entry(APPLIED, partition)
            offsets = dict(before.offsets) if before else {}
            for (topic, p), offset in applied.items():
                if p == partition:
                    offsets[topic] = max(offset, offsets.get(topic, -1))
            covers.append((partition, _name(partition, APPLIED), _Entry(offsets, b"").encode()))
        return [*values, *covers, *gone]


def _ordered(partition: int, order: TopicOrder) -> Change:
    return partition, _name(partition, ORDER), _Entry(dict(order), b"").encode()


def _latest(events: Sequence[Event]) -> list[Event]:
    """The events without those of compacted topics that a later one of the same key replaces."""
    last = {(e.topic.name, e.key()): i for i, e in enumerate(events) if e.topic.compacted}
    return [e for i, e in enumerate(events) if not e.topic.compacted or last[e.topic.name, e.key()] == i]


Sweep = Callable[[Position], Awaitable[Sequence[Event]]]
"""Lets what is due expire; the position says for which partition, and until which time (`timestamp`, in ms)."""
OnRestored = Callable[[], None]
"""The state was read back, or its partitions changed: rebuild what was derived from it."""


@dataclass(frozen=True)
class KeyedGroup:
    """Topics with the same keys and partitions, whose handlers share one state.

    `sweep` is called again and again for each partition, in a unit of its own. Its time is the earliest that any
    of the group's topics has been read to, so that nothing expires while its other half is still unread; a topic
    read to the end counts as now.
    """

    store: KeyedStore
    routes: Sequence[Route]
    sweep: Sweep | None = None
    on_restored: OnRestored | None = None


class KeyedFactory(Protocol):
    """Makes the consumers of a service's groups; `engine` publishes what they cause, and is started before them."""

    def __call__(self, service: str, groups: Sequence[KeyedGroup], engine: Engine) -> Sequence[Consumer]: ...
