"""Which entities of a partition were heard of longest ago, and what they take: hints in memory, from the state."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

KEY_BYTES = 400
"""What a key takes beside its value, here and in the table."""


class Recency:
    """Per partition the keys in the order in which they were last touched, each with the bytes kept for it."""

    def __init__(self) -> None:
        self._keys: dict[int, dict[str, int]] = defaultdict(dict)
        self._bytes: dict[int, int] = defaultdict(int)

    def clear(self) -> None:
        """Forget everything."""
        self._keys.clear()
        self._bytes.clear()

    def touch(self, partition: int, key: str, size: int) -> None:
        """A key was heard of, and takes `size` bytes now."""
        keys, size = self._keys[partition], size + KEY_BYTES
        self._bytes[partition] += size - keys.pop(key, 0)
        keys[key] = size

    def discard(self, partition: int, key: str) -> None:
        """A key is gone."""
        self._bytes[partition] -= self._keys[partition].pop(key, 0)

    def bytes(self, partition: int) -> int:
        """What all keys of a partition take."""
        return self._bytes[partition]

    def count(self, partition: int) -> int:
        """How many keys there are."""
        return len(self._keys[partition])

    def of(self, loop: str) -> list[tuple[int, str]]:
        """The keys of a loop, with their partitions."""
        prefix = f"{loop}/"
        return [(p, key) for p, keys in self._keys.items() for key in keys if key.startswith(prefix)]

    def excess(self, partition: int, entries: int, limit: int, most: int) -> list[str]:
        """The oldest keys, without which there are at most `entries` of at most `limit` bytes; `most` at a time."""
        over, room = self.count(partition) - entries, self._bytes[partition] - limit
        gone: list[str] = []
        for key, size in islice(self._keys[partition].items(), most):
            if len(gone) >= over and room <= 0:
                break
            gone.append(key)
            room -= size
        return gone
