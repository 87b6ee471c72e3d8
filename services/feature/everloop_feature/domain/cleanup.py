"""Keys of loops that were deleted or began a new lifetime, whose state is deleted step by step."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable


class CleanupQueue:
    """Per partition the keys to check, in memory only; rebuilt from the store after a start."""

    def __init__(self) -> None:
        self._keys: dict[int, deque[str]] = defaultdict(deque)

    def clear(self) -> None:
        """Remove all keys."""
        self._keys.clear()

    def add(self, keys: Iterable[tuple[int, str]]) -> None:
        """Add keys, each with its partition."""
        for partition, key in keys:
            self._keys[partition].append(key)

    def take(self, partition: int, most: int) -> list[str]:
        """Remove and return the next keys of a partition."""
        keys = self._keys[partition]
        return [keys.popleft() for _ in range(min(most, len(keys)))]
