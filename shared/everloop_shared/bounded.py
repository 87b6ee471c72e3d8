"""A mapping with limits in entries and in bytes that evicts its first entries."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
ENTRY_BYTES = 300
"""The memory of an entry beside its value: the key, its strings, and its places in the tables."""


class Bounded(Generic[K, V]):
    """An ordered mapping that evicts its first entries beyond `entries` of them, or beyond `limit` bytes in all.

    The caller of `put` gives the size of the value in bytes; `bytes` is the sum and never above the limit. A value
    that alone is larger than the limit is not stored.
    """

    def __init__(self, entries: int, limit: int) -> None:
        self.entries, self.limit = entries, limit
        self.bytes = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._entries))

    def get(self, key: K) -> V | None:
        """The value of a key, None where there is none; does not change the order."""
        found = self._entries.get(key)
        return found[0] if found else None

    def size(self, key: K) -> int:
        """The size of a key's value as given to `put`; 0 where there is none."""
        found = self._entries.get(key)
        return found[1] - ENTRY_BYTES if found else 0

    def put(self, key: K, value: V, size: int) -> None:
        """Store a value as the last one, and evict the first ones where a limit is exceeded."""
        self.discard(key)
        self._entries[key] = value, size + ENTRY_BYTES
        self.bytes += size + ENTRY_BYTES
        while self.bytes > self.limit or len(self._entries) > self.entries:
            self.discard(next(iter(self._entries)))

    def put_first(self, key: K, value: V, size: int) -> bool:
        """Store a value as the first to be evicted; False where that would exceed a limit."""
        self.discard(key)
        if self.bytes + size + ENTRY_BYTES > self.limit or len(self._entries) >= self.entries:
            return False
        self._entries[key] = value, size + ENTRY_BYTES
        self._entries.move_to_end(key, last=False)
        self.bytes += size + ENTRY_BYTES
        return True

    def discard(self, key: K) -> None:
        """Remove a key."""
        if found := self._entries.pop(key, None):
            self.bytes -= found[1]
