"""What is remembered of the latest keys, within a number of entries and a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
ENTRY_BYTES = 300
"""What Python takes for an entry beside its value: the key, its strings, and its places in the tables."""


class Bounded(Generic[K, V]):
    """An ordered mapping that forgets its first entries beyond `entries` of them, or beyond `limit` bytes in all.

    Whoever puts a value in says how many bytes it takes; `bytes` is their sum and never above the limit. A value
    that is larger than the limit by itself is not kept.
    """

    def __init__(self, entries: int, limit: int) -> None:
        self.entries, self.limit = entries, limit
        self.bytes = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: K) -> bool:
        return key in self._kept

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._kept))

    def get(self, key: K) -> V | None:
        """The value of a key, None where there is none; it stays in its place."""
        found = self._kept.get(key)
        return found[0] if found else None

    def size(self, key: K) -> int:
        """The bytes that were said of a key's value; 0 where there is none."""
        found = self._kept.get(key)
        return found[1] - ENTRY_BYTES if found else 0

    def put(self, key: K, value: V, size: int) -> None:
        """Remember a value, last of all, and forget the first ones that have no room beside it."""
        self.discard(key)
        self._kept[key] = value, size + ENTRY_BYTES
        self.bytes += size + ENTRY_BYTES
        while self.bytes > self.limit or len(self._kept) > self.entries:
            self.discard(next(iter(self._kept)))

    def put_first(self, key: K, value: V, size: int) -> bool:
        """Remember a value, first to be forgotten; False where there is no room for it."""
        self.discard(key)
        if self.bytes + size + ENTRY_BYTES > self.limit or len(self._kept) >= self.entries:
            return False
        self._kept[key] = value, size + ENTRY_BYTES
        self._kept.move_to_end(key, last=False)
        self.bytes += size + ENTRY_BYTES
        return True

    def discard(self, key: K) -> None:
        """Forget a key."""
        if found := self._kept.pop(key, None):
            self.bytes -= found[1]
