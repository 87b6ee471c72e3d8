"""Where the rows of a keyed store lie: names in order, changed together or not at all; in memory or on disk."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol


class Storage(Protocol):
    """Rows by name. May block for a disk; raises Unavailable where that cannot be read or written at present."""

    def get(self, name: bytes) -> bytes | None:
        """The value, None where there is none."""

    def get_many(self, names: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values of all these names, which costs less than to get one after another."""

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Names and values with start <= name < stop, in the order of their names."""

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Set rows, and delete those that are None: all of them or, where this raises or the process dies, none."""

    def delete_range(self, start: bytes, stop: bytes) -> None:
        """Delete all rows with start <= name < stop."""


class MemoryStorage:
    """Rows in memory."""

    def __init__(self, rows: Mapping[bytes, bytes] | None = None) -> None:
        self._rows = dict(rows or {})
        self._names = sorted(self._rows)

    def get(self, name: bytes) -> bytes | None:
        """The value."""
        return self._rows.get(name)

    def get_many(self, names: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values."""
        return [self._rows.get(name) for name in names]

    def scan(self, start: bytes, stop: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The rows as of now."""
        names = self._names[bisect_left(self._names, start) : bisect_left(self._names, stop)]
        return ((name, self._rows[name]) for name in names)

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Set and delete."""
        for name, value in rows.items():
            if value is not None:
                if name not in self._rows:
                    insort(self._names, name)
                self._rows[name] = value
            elif self._rows.pop(name, None) is not None:
                del self._names[bisect_left(self._names, name)]

    def delete_range(self, start: bytes, stop: bytes) -> None:
        """Delete them."""
        self.write({name: None for name, _ in self.scan(start, stop)})
