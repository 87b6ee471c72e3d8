"""Which entities of a partition were heard of longest ago: hints in memory, rebuilt from the state."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice


class Recency:
    """Per partition the keys in the order in which they were last touched."""

    def __init__(self) -> None:
        self._keys: dict[int, dict[str, None]] = defaultdict(dict)

    def clear(self) -> None:
        """Forget everything."""
        self._keys.clear()

    def touch(self, partition: int, key: str) -> None:
        """A key was heard of."""
        keys = self._keys[partition]
        keys.pop(key, None)
        keys[key] = None

    def discard(self, partition: int, key: str) -> None:
        """A key is gone."""
        self._keys[partition].pop(key, None)

    def count(self, partition: int) -> int:
        """How many keys there are."""
        return len(self._keys[partition])

    def of(self, loop: str) -> list[tuple[int, str]]:
        """The keys of a loop, with their partitions."""
        prefix = f"{loop}/"
        return [(p, key) for p, keys in self._keys.items() for key in keys if key.startswith(prefix)]

    def oldest(self, partition: int, most: int) -> list[str]:
        """Keys to part with first."""
        return list(islice(self._keys[partition], most))
