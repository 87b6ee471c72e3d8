"""The index of a keyed store: in which order its keys expire or are evicted, and how many bytes they take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from everloop_shared.messaging.keyed.state import StoredValue
from everloop_shared.messaging.keyed.storage import MemoryStorage, Storage

ROW, TOTAL = b"#i|%d|", b"#t|%d|"
"""How the names of rows begin, by partition; names of values begin with a digit."""
READ_AHEAD = 200


class Entry(NamedTuple):
    """Where a key stands: tables have groups, groups have keys by `order` (at least 0), each with its bytes."""

    table: str
    group: str
    order: int
    size: int


class Total(NamedTuple):
    """Keys and their bytes."""

    keys: int = 0
    size: int = 0

    def plus(self, other: Total) -> Total:
        """The sum."""
        return Total(self.keys + other.keys, self.size + other.size)


IndexRule = Callable[[str, bytes], Sequence[Entry]]
"""The entries of a key, from its value alone: so the index is the same whether it was kept or is built again."""
Restored = tuple[int, bytes, bytes | None, bytes | None]
"""Partition and encoded key, the value that was stored, and the one that takes its place."""
_Group = tuple[int, str, str]


class KeyIndex:
    """Entries of what is stored and of what the present unit of work has changed; written with the values.

    Only the totals of groups are in memory. `first` reads ahead, so that it is quick to ask for one key after another.
    """

    def __init__(self, rule: IndexRule | None) -> None:
        self.rule = rule
        self._storage: Storage = MemoryStorage()
        self._totals: dict[int, dict[tuple[str, str], Total]] = {}
        self._before: dict[tuple[int, str], Sequence[Entry]] = {}
        self._after: dict[tuple[int, str], Sequence[Entry]] = {}
        self._change: dict[_Group, Total] = {}
        self._sums: dict[tuple[int, str], Total] = {}
        self._ahead: dict[_Group, deque[bytes]] = {}
        self._read_to: dict[_Group, bytes] = {}

    def attach(self, storage: Storage) -> None:
        """Use the rows of this storage."""
        self._storage = storage
        self.reset()

    # for the store

    def stage(self, partition: int, key: str, before: StoredValue | None, after: StoredValue | None) -> None:
        """The value of a key changes with the present unit; `before` is what was stored before that."""
        if self.rule is None:
            return
        place = partition, key
        if place not in self._after:
            self._before[place] = self._entries(key, before)
        for entry in self._after.pop(place, self._before[place]):
            self._count(partition, entry, -1)
        self._after[place] = self._entries(key, after)
        for entry in self._after[place]:
            self._count(partition, entry, 1)

    def _entries(self, key: str, stored: StoredValue | None) -> Sequence[Entry]:
        return self.rule(key, stored.value) if self.rule and stored and stored.value is not None else ()

    def _count(self, partition: int, entry: Entry, by: int) -> None:
        group, change = (partition, entry.table, entry.group), Total(by, by * entry.size)
        self._change[group] = self._change.get(group, Total()).plus(change)
        if (partition, entry.table) in self._sums:
            self._sums[partition, entry.table] = self._sums[partition, entry.table].plus(change)

    def savepoint(self) -> Callable[[], None]:
        """What goes back to here."""
        after, change = dict(self._after), dict(self._change)

        def undo() -> None:
            self._after, self._change = after, change
            self.forget_reads()

        return undo

    def rows(self) -> dict[bytes, bytes | None]:
        """The rows to write for what is staged."""
        rows: dict[bytes, bytes | None] = {}
        for place, after in self._after.items():
            before, key = self._before[place], place[1].encode()
            rows |= {_row(place[0], e) + key: None for e in before if e not in after}
            rows |= {_row(place[0], e) + key: b"" for e in after if e not in before}
        return rows | self._total_rows()

    def _total_rows(self) -> dict[bytes, bytes | None]:
        totals = {group: self._total(*group) for group in self._change}
        return {_total_row(*group): b"%d %d" % total if total.keys else None for group, total in totals.items()}

    def rows_between(self, changes: Iterable[Restored]) -> dict[bytes, bytes | None]:
        """The rows to write where what is stored is replaced by what was read of the changelog.

        It does for many keys what `stage` and `rows` do, but cannot be undone by a savepoint.
        """
        rows: dict[bytes, bytes | None] = {}
        if self.rule is None:
            return rows
        counts: dict[_Group, list[int]] = {}
        for partition, suffix, before, after in changes:
            key = suffix.decode()
            for value, row, by in ((before, None, -1), (after, b"", 1)):
                if value is None:
                    continue
                for table, name, order, size in self.rule(key, value):
                    group = partition, table, name
                    count = counts.get(group)
                    if count is None:
                        count = counts[group] = [0, 0]
                    count[0] += by
                    count[1] += by * size
                    rows[_group(*group) + order.to_bytes(8) + suffix] = row
        self._change = {group: Total(*count) for group, count in counts.items()}
        return rows | self._total_rows()

    def commit(self) -> None:
        """What the rows are of has been written."""
        for place, after in self._after.items():
            for entry in after:
                group = place[0], entry.table, entry.group
                if _row(place[0], entry) + place[1].encode() <= self._read_to.get(group, b""):
                    del self._read_to[group], self._ahead[group]
        for partition, table, name in self._change:
            self._loaded(partition)[table, name] = self._total(partition, table, name)
        self._forget_stage()

    def reset(self) -> None:
        """What is staged is dropped, and everything else is read again."""
        self._forget_stage()
        self._totals.clear()
        self.forget_reads()

    def forget_reads(self) -> None:
        """Others than units of work have written: what was read ahead is read again."""
        for cache in (self._sums, self._ahead, self._read_to):
            cache.clear()

    def _forget_stage(self) -> None:
        self._before, self._after, self._change = {}, {}, {}

    # for handlers

    def total(self, partition: int, table: str) -> Total:
        """The keys of a table and their bytes."""
        if (partition, table) not in self._sums:
            totals = self.groups(partition, table).values()
            self._sums[partition, table] = Total(sum(t.keys for t in totals), sum(t.size for t in totals))
        return self._sums[partition, table]

    def groups(self, partition: int, table: str) -> Mapping[str, Total]:
        """The groups of a table that have keys."""
        names = {g for t, g in self._loaded(partition) if t == table}
        names |= {g for p, t, g in self._change if (p, t) == (partition, table)}
        totals = {group: self._total(partition, table, group) for group in sorted(names)}
        return {group: total for group, total in totals.items() if total.keys}

    def first(self, partition: int, table: str, group: str) -> str | None:
        """The key that comes first in a group, of what is stored before what the unit has added."""
        where = partition, table, group
        start = _group(*where)
        while ahead := self._ahead.get(where) or self._read_ahead(where):
            order, key = _split(ahead[0], start)
            if self._is_there(where, ahead[0], order, key):
                return key
            ahead.popleft()
        return next(iter(self._added(where)), (0, None))[1]

    def keys(self, partition: int, table: str, group: str, most: int, upto: int = (1 << 63) - 1) -> list[str]:
        """The first keys of a group in their order, with orders up to `upto`."""
        where, start = (partition, table, group), _group(partition, table, group)
        rows = self._storage.scan(start, start + (upto + 1).to_bytes(8))
        stored = (_split(name, start) for name, _ in rows)
        unchanged = ((order, key) for order, key in stored if (partition, key) not in self._after)
        found = [*islice(unchanged, most), *(each for each in self._added(where) if each[0] <= upto)]
        return [key for _, key in sorted(found, key=lambda each: each[0])[:most]]

    def _read_ahead(self, where: _Group) -> deque[bytes]:
        start = self._read_to.get(where)
        begin = _group(*where) if start is None else start + b"\0"
        names = deque(name for name, _ in islice(self._storage.scan(begin, _end(where)), READ_AHEAD))
        self._ahead[where] = names
        if names:
            self._read_to[where] = names[-1]
        return names

    def _is_there(self, where: _Group, name: bytes, order: int, key: str) -> bool:
        after = self._after.get((where[0], key))
        if after is None:
            return self._storage.get(name) is not None
        return any((e.table, e.group, e.order) == (*where[1:], order) for e in after)

    def _added(self, where: _Group) -> list[tuple[int, str]]:
        added = [
            (entry.order, key)
            for (partition, key), entries in self._after.items()
            if partition == where[0]
            for entry in entries
            if (entry.table, entry.group) == where[1:]
        ]
        return sorted(added, key=lambda each: each[0])

    def _total(self, partition: int, table: str, group: str) -> Total:
        known = self._loaded(partition).get((table, group), Total())
        return known.plus(self._change.get((partition, table, group), Total()))

    def _loaded(self, partition: int) -> dict[tuple[str, str], Total]:
        if partition not in self._totals:
            self._totals[partition] = dict(self._read_totals(partition))
        return self._totals[partition]

    def _read_totals(self, partition: int) -> Iterator[tuple[tuple[str, str], Total]]:
        start = TOTAL % partition
        for name, value in self._storage.scan(start, start + b"\xff"):
            table, group = name.removeprefix(start).decode().split("\0")
            count, size = value.split()
            yield (table, group), Total(int(count), int(size))


def index_ranges(partition: int) -> tuple[bytes, bytes]:
    """How the names of all rows of a partition's index begin."""
    return ROW % partition, TOTAL % partition


@lru_cache(maxsize=1024)
def _group(partition: int, table: str, group: str) -> bytes:
    return ROW % partition + f"{table}\0{group}\0".encode()


def _end(where: _Group) -> bytes:
    return _group(*where)[:-1] + b"\1"


def _row(partition: int, entry: Entry) -> bytes:
    return _group(partition, entry.table, entry.group) + entry.order.to_bytes(8)


def _total_row(partition: int, table: str, group: str) -> bytes:
    return TOTAL % partition + f"{table}\0{group}".encode()


def _split(name: bytes, start: bytes) -> tuple[int, str]:
    order = name[len(start) : len(start) + 8]
    return int.from_bytes(order), name[len(start) + 8 :].decode()
