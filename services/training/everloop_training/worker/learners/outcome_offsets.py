"""Where the last outcomes of a loop are on its log, so that a window of them is a range of offsets."""

from __future__ import annotations

import zlib
from array import array
from bisect import bisect_left
from typing import Any

KEPT_OFFSETS = 20_000
"""Offsets kept in any case: a model that is added to the spec is trained on outcomes from before."""
MAX_WINDOW = 1_000_000
"""The longest window of outcomes; one that asks for more gets as many."""


class OutcomeOffsets:
    """The offsets of the last outcomes that were learned, ascending."""

    def __init__(self) -> None:
        self._offsets = array("q")

    def __getstate__(self) -> dict[str, Any]:
        return {"packed": zlib.compress(self._offsets.tobytes(), 1)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._offsets = array("q", zlib.decompress(state["packed"]))

    def add(self, offset: int, kept: int) -> None:
        """Add the newest; of the others at least `kept` stay, and at most a half more."""
        self._offsets.append(offset)
        most = min(max(kept, KEPT_OFFSETS), MAX_WINDOW)
        if len(self._offsets) > most + most // 2:
            del self._offsets[:-most]

    def start_of_last(self, outcomes: int) -> int:
        """The offset of the oldest of the last so many outcomes, of those that are kept; 0 where there is none."""
        return self._offsets[-min(outcomes, len(self._offsets))] if self._offsets else 0

    def count_since(self, offset: int) -> int:
        """How many of the kept outcomes are at this offset or after it."""
        return len(self._offsets) - bisect_left(self._offsets, offset)
