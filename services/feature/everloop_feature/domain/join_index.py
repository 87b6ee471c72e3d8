"""Which joins of a partition expire when, and which one is evicted next when a limit is reached."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import NamedTuple


class IndexedJoin(NamedTuple):
    """When a join expires, the bytes of its stored value, and whether its prediction has a label."""

    due_ms: int
    size: int
    labelled: bool


@dataclass(slots=True)
class LoopShare:
    """The joins of one loop in a partition, oldest first, and their bytes."""

    open: OrderedDict[str, None] = field(default_factory=OrderedDict)
    labelled: OrderedDict[str, None] = field(default_factory=OrderedDict)
    size: int = 0

    def __len__(self) -> int:
        return len(self.open) + len(self.labelled)


@dataclass(slots=True)
class PartitionIndex:
    """The joins of one partition: by key, by expiry (a heap), and by loop."""

    joins: dict[str, IndexedJoin] = field(default_factory=dict)
    due: list[tuple[int, str]] = field(default_factory=list)
    shares: dict[str, LoopShare] = field(default_factory=dict)
    size: int = 0


class JoinIndex:
    """At most `max_joins` keys and `max_bytes` bytes per partition, in memory only; rebuilt from the store.

    Beyond a limit, the loop with the largest share evicts: joins whose prediction has its label first, then the
    oldest. So no loop evicts joins of another one that stays within its fair share.
    """

    def __init__(self, max_joins: int, max_bytes: int) -> None:
        self.max_joins, self.max_bytes = max_joins, max_bytes
        self._partitions: dict[int, PartitionIndex] = defaultdict(PartitionIndex)

    def clear(self) -> None:
        """Remove all keys."""
        self._partitions.clear()

    def put(self, partition: int, key: str, due_ms: int, size: int, labelled: bool = False) -> None:
        """Add a key that expires at `due_ms`, or replace what is known of it."""
        index, loop = self._partitions[partition], key.partition("/")[0]
        share = index.shares.get(loop)
        if share is None:
            share = index.shares[loop] = LoopShare()
        known = index.joins.get(key)
        if known is None or known.due_ms != due_ms:
            heappush(index.due, (due_ms, key))
        if known is not None:
            share.size -= known.size
            index.size -= known.size
            if labelled != known.labelled:
                del (share.labelled if known.labelled else share.open)[key]
        (share.labelled if labelled else share.open)[key] = None
        index.joins[key] = IndexedJoin(due_ms, size, labelled)
        share.size += size
        index.size += size

    def discard(self, partition: int, key: str) -> None:
        """Remove a key."""
        index = self._partitions[partition]
        known = index.joins.pop(key, None)
        if known is None:
            return
        loop = key.partition("/")[0]
        share = index.shares[loop]
        del (share.labelled if known.labelled else share.open)[key]
        share.size -= known.size
        index.size -= known.size
        if not share:
            del index.shares[loop]
        if len(index.due) > 2 * len(index.joins) + 100:
            index.due = [(join.due_ms, key) for key, join in index.joins.items()]
            heapify(index.due)

    def keys_of(self, loop: str) -> list[tuple[int, str]]:
        """The keys of a loop, with their partitions."""
        shares = [(p, index.shares[loop]) for p, index in self._partitions.items() if loop in index.shares]
        return [(p, key) for p, share in shares for key in (*share.labelled, *share.open)]

    def count(self, partition: int) -> int:
        """The number of keys of a partition."""
        return len(self._partitions[partition].joins)

    def bytes(self, partition: int) -> int:
        """The bytes of their values."""
        return self._partitions[partition].size

    def next_eviction(self, partition: int) -> str | None:
        """The key to evict next; None within both limits."""
        index = self._partitions[partition]
        if len(index.joins) > self.max_joins:
            largest = max(index.shares.values(), key=len)
        elif index.size > self.max_bytes:
            largest = max(index.shares.values(), key=lambda share: share.size)
        else:
            return None
        return next(iter(largest.labelled or largest.open))

    def expired(self, partition: int, now_ms: int, most: int) -> list[str]:
        """Keys that expired by `now_ms`, oldest first; they stay until discarded."""
        index = self._partitions[partition]
        found: dict[str, int] = {}
        while index.due and len(found) < most and index.due[0][0] <= now_ms:
            due_ms, key = heappop(index.due)
            join = index.joins.get(key)
            if join is not None and join.due_ms == due_ms:
                found[key] = due_ms
        for key, due_ms in found.items():
            heappush(index.due, (due_ms, key))
        return list(found)
