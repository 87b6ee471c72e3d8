"""What a partition keeps of one kind: when each key is due, and which to part with when there is too much."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import NamedTuple


class Kept(NamedTuple):
    """A key: when it is due, the bytes of its value, and whether it settled (both of its sides are there)."""

    due_ms: int
    size: int
    settled: bool


@dataclass(slots=True)
class Share:
    """What one loop has of a partition: its keys, those first that came first, and their bytes."""

    open: OrderedDict[str, None] = field(default_factory=OrderedDict)
    settled: OrderedDict[str, None] = field(default_factory=OrderedDict)
    size: int = 0

    def __len__(self) -> int:
        return len(self.open) + len(self.settled)


@dataclass(slots=True)
class _Part:
    keys: dict[str, Kept] = field(default_factory=dict)
    due: list[tuple[int, str]] = field(default_factory=list)
    shares: dict[str, Share] = field(default_factory=dict)
    size: int = 0


class Deadlines:
    """Hints in memory, rebuilt from the state: at most `most` keys and `most_bytes` bytes in each partition.

    Beyond, the loop that has the most parts with its own: those that settled first, then the oldest. So no loop is
    the reason why another one loses anything, as long as that one has no more than its fair share.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most, self.most_bytes = most, most_bytes
        self._parts: dict[int, _Part] = defaultdict(_Part)

    def clear(self) -> None:
        """Forget everything."""
        self._parts.clear()

    def keep(self, partition: int, key: str, due_ms: int, size: int, settled: bool = False) -> None:
        """A key is there until `due_ms`, or its value changed."""
        part, loop = self._parts[partition], key.partition("/")[0]
        share = part.shares.get(loop)
        if share is None:
            share = part.shares[loop] = Share()
        known = part.keys.get(key)
        if known is None or known.due_ms != due_ms:
            heappush(part.due, (due_ms, key))
        if known is not None:
            share.size -= known.size
            part.size -= known.size
            if settled != known.settled:
                del (share.settled if known.settled else share.open)[key]
        (share.settled if settled else share.open)[key] = None
        part.keys[key] = Kept(due_ms, size, settled)
        share.size += size
        part.size += size

    def discard(self, partition: int, key: str) -> None:
        """A key is gone."""
        part = self._parts[partition]
        known = part.keys.pop(key, None)
        if known is None:
            return
        loop = key.partition("/")[0]
        share = part.shares[loop]
        del (share.settled if known.settled else share.open)[key]
        share.size -= known.size
        part.size -= known.size
        if not share:
            del part.shares[loop]
        if len(part.due) > 2 * len(part.keys) + 100:
            part.due = [(kept.due_ms, key) for key, kept in part.keys.items()]
            heapify(part.due)

    def of(self, loop: str) -> list[tuple[int, str]]:
        """The keys of a loop, with their partitions."""
        shares = [(p, part.shares[loop]) for p, part in self._parts.items() if loop in part.shares]
        return [(p, key) for p, share in shares for key in (*share.settled, *share.open)]

    def count(self, partition: int) -> int:
        """How many keys there are."""
        return len(self._parts[partition].keys)

    def size(self, partition: int) -> int:
        """How many bytes their values have."""
        return self._parts[partition].size

    def excess(self, partition: int) -> str | None:
        """The key to part with next; None while there is room."""
        part = self._parts[partition]
        if len(part.keys) > self.most:
            largest = max(part.shares.values(), key=len)
        elif part.size > self.most_bytes:
            largest = max(part.shares.values(), key=lambda share: share.size)
        else:
            return None
        return next(iter(largest.settled or largest.open))

    def due(self, partition: int, now_ms: int, most: int) -> list[str]:
        """Keys whose deadline has passed, oldest first; they stay until discarded."""
        part = self._parts[partition]
        found: dict[str, int] = {}
        while part.due and len(found) < most and part.due[0][0] <= now_ms:
            due_ms, key = heappop(part.due)
            kept = part.keys.get(key)
            if kept is not None and kept.due_ms == due_ms:
                found[key] = due_ms
        for key, due_ms in found.items():
            heappush(part.due, (due_ms, key))
        return list(found)
