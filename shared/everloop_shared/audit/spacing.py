"""Which refusals get a record: a few a second of each address, and the number of those left out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

PER_ADDRESS, PER_SECOND = 3, 50
"""Refusals with a record in one second: of one address, and of all."""
MOST_ADDRESSES = 1_000
"""Addresses that are known; the least recently used is forgotten, and what it left out counts for all."""
OTHERS = ""
"""The address of what was left out of addresses that are not known any more."""


@dataclass
class _Window:
    second: int
    taken: int = 0
    left_out: int = 0


class RefusalSpacing:
    """Counts refusals by address and second; times are in seconds of a clock that never goes back."""

    def __init__(self) -> None:
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._second, self._taken = -1, 0
        self.left_out = 0
        """Refusals that were left out, and of which no record says so yet."""

    def admit(self, address: str, now: float) -> int | None:
        """How many were left out since the last record of this address; None leaves this one out as well."""
        window = self._window(address, int(now))
        if window.taken >= PER_ADDRESS or not self._take(int(now)):
            window.left_out += 1
            self.left_out += 1
            return None
        window.taken += 1
        return self._said(window)

    def collect(self, now: float) -> list[tuple[str, int]]:
        """What was left out in seconds that are over, by address; at most as many as get a record in one second."""
        if not self.left_out:
            return []
        over = [item for item in self._windows.items() if item[1].left_out and item[1].second < int(now)]
        return [(address, self._said(window)) for address, window in over if self._take(int(now))]

    def _said(self, window: _Window) -> int:
        count, window.left_out = window.left_out, 0
        self.left_out -= count
        return count

    def _take(self, second: int) -> bool:
        if second != self._second:
            self._second, self._taken = second, 0
        if self._taken >= PER_SECOND:
            return False
        self._taken += 1
        return True

    def _window(self, address: str, second: int) -> _Window:
        window = self._windows.get(address)
        if window is None:
            window = self._windows[address] = _Window(second)
            if len(self._windows) > MOST_ADDRESSES:
                self._forget(second)
        elif window.second != second:
            window.second, window.taken = second, 0
        self._windows.move_to_end(address)
        return window

    def _forget(self, second: int) -> None:
        address, oldest = next(item for item in self._windows.items() if item[0] != OTHERS)
        del self._windows[address]
        if oldest.left_out:
            self._windows.setdefault(OTHERS, _Window(second)).left_out += oldest.left_out
