"""Keys of loops that were deleted, or began a new life: what is remembered under them goes, some at each sweep."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable


class Leaving:
    """Per partition the keys to look at: hints in memory, found again when the state is read back."""

    def __init__(self) -> None:
        self._keys: dict[int, deque[str]] = defaultdict(deque)

    def clear(self) -> None:
        """Forget everything."""
        self._keys.clear()

    def add(self, keys: Iterable[tuple[int, str]]) -> None:
        """These may have to go."""
        for partition, key in keys:
            self._keys[partition].append(key)

    def take(self, partition: int, most: int) -> list[str]:
        """The next keys of a partition, which are not given again."""
        keys = self._keys[partition]
        return [keys.popleft() for _ in range(min(most, len(keys)))]
