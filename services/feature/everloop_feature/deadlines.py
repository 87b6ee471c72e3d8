"""Which joins of a partition are due, oldest first: hints in memory, rebuilt from the state."""

from __future__ import annotations

from collections import defaultdict
from heapq import heapify, heappop, heappush


class Deadlines:
    """Per partition, when each key is due. A key that settled (both sides there) goes first when room is needed."""

    def __init__(self) -> None:
        self._due: dict[int, list[tuple[int, str]]] = defaultdict(list)
        self._settled: dict[int, list[tuple[int, str]]] = defaultdict(list)
        self._keys: dict[int, dict[str, int]] = defaultdict(dict)

    def clear(self) -> None:
        """Forget everything."""
        for part in (self._due, self._settled, self._keys):
            part.clear()

    def add(self, partition: int, key: str, due_ms: int) -> None:
        """A key is there until `due_ms`; once known, its deadline stays."""
        if key not in self._keys[partition]:
            self._keys[partition][key] = due_ms
            heappush(self._due[partition], (due_ms, key))

    def settle(self, partition: int, key: str) -> None:
        """Both sides of a key are there."""
        heappush(self._settled[partition], (self._keys[partition].get(key, 0), key))

    def discard(self, partition: int, key: str) -> None:
        """A key is gone."""
        self._keys[partition].pop(key, None)
        if len(self._due[partition]) + len(self._settled[partition]) > 4 * len(self._keys[partition]) + 100:
            self._compact(partition)

    def of(self, loop: str) -> list[tuple[int, str]]:
        """The keys of a loop, with their partitions."""
        prefix = f"{loop}/"
        return [(p, key) for p, keys in self._keys.items() for key in keys if key.startswith(prefix)]

    def count(self, partition: int) -> int:
        """How many keys there are."""
        return len(self._keys[partition])

    def due(self, partition: int, now_ms: int, most: int) -> list[str]:
        """Keys whose deadline has passed, oldest first; they stay until discarded."""
        return self._first(self._due[partition], partition, most, now_ms)

    def oldest(self, partition: int, most: int) -> list[str]:
        """Keys to part with first: the oldest that settled, then the oldest of all."""
        settled = self._first(self._settled[partition], partition, most)
        rest = self._first(self._due[partition], partition, most) if len(settled) < most else []
        return list(dict.fromkeys([*settled, *rest]))[:most]

    def _first(self, heap: list[tuple[int, str]], partition: int, most: int, now_ms: int | None = None) -> list[str]:
        keys = self._keys[partition]
        found: dict[str, int] = {}
        while heap and len(found) < most and (now_ms is None or heap[0][0] <= now_ms):
            due_ms, key = heappop(heap)
            if keys.get(key) == due_ms:
                found[key] = due_ms
        for key, due_ms in found.items():
            heappush(heap, (due_ms, key))
        return list(found)

    def _compact(self, partition: int) -> None:
        keys = self._keys[partition]
        for heaps in (self._due, self._settled):
            heaps[partition] = list({item for item in heaps[partition] if keys.get(item[1]) == item[0]})
            heapify(heaps[partition])
