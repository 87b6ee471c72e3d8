"""Which entities of a partition were used longest ago, and how many bytes each takes."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice

KEY_BYTES = 400
"""Memory of a key beside its value, here and in the store."""


class EntityLru:
    """Per partition the keys of entities, least recently used first, each with its bytes.

    Kept in memory only; rebuilt from the store after a start.
    """

    def __init__(self) -> None:
        self._keys: dict[int, dict[str, int]] = defaultdict(dict)
        self._bytes: dict[int, int] = defaultdict(int)

    def clear(self) -> None:
        """Remove all keys."""
        self._keys.clear()
        self._bytes.clear()

    def touch(self, partition: int, key: str, size: int) -> None:
        """Make a key the most recently used one; its value takes `size` bytes now."""
        keys, size = self._keys[partition], size + KEY_BYTES
        self._bytes[partition] += size - keys.pop(key, 0)
        keys[key] = size

    def discard(self, partition: int, key: str) -> None:
        """Remove a key."""
        self._bytes[partition] -= self._keys[partition].pop(key, 0)

    def bytes(self, partition: int) -> int:
        """The bytes of all keys of a partition."""
        return self._bytes[partition]

    def count(self, partition: int) -> int:
        """The number of keys of a partition."""
        return len(self._keys[partition])

    def keys_of(self, loop: str) -> list[tuple[int, str]]:
        """The keys of a loop, with their partitions."""
        prefix = f"{loop}/"
        return [(p, key) for p, keys in self._keys.items() for key in keys if key.startswith(prefix)]

    def excess(self, partition: int, max_entities: int, max_bytes: int, most: int) -> list[str]:
        """The least recently used keys whose removal brings a partition within both limits, `most` at a time."""
        over, room = self.count(partition) - max_entities, self._bytes[partition] - max_bytes
        evicted: list[str] = []
        for key, size in islice(self._keys[partition].items(), most):
            if len(evicted) >= over and room <= 0:
                break
            evicted.append(key)
            room -= size
        return evicted
