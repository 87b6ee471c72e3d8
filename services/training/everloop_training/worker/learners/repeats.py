"""Records that the outcome log holds twice: said again after a crash, the same event with the same id, learned once."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

from everloop_training.domain.outcome import Outcome

REMEMBERED = 5_000
"""Ids looked through: a record is repeated within the batches that a crash cut off, a few hundred outcomes later."""

OFFSETS_KEPT = 100_000
"""Offsets of repetitions kept, the latest: about 100 to 1,000 crashes, for lines that are rebuilt from history."""


class Repeats:
    """The ids of the last outcomes of a loop, and the offsets of those that came again."""

    def __init__(self) -> None:
        self.offsets: dict[int, None] = {}  # a set that knows its oldest member
        self._recent: deque[bytes] = deque()
        self._known: set[bytes] = set()

    def again(self, outcome: Outcome) -> bool:
        """Whether this record was heard before, at an earlier offset; else it is remembered."""
        mark = blake2b(outcome.id.encode(), digest_size=8).digest()
        if mark in self._known:
            self.offsets[outcome.offset] = None
            if len(self.offsets) > OFFSETS_KEPT:
                del self.offsets[next(iter(self.offsets))]
            return True
        self._recent.append(mark)
        self._known.add(mark)
        if len(self._recent) > REMEMBERED:
            self._known.discard(self._recent.popleft())
        return False
