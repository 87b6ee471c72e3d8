"""Records that stand on the outcome log twice, published again after a crash under the same id: learned once."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b

from everloop_learning.outcome import Outcome

IDS_REMEMBERED = 5_000
"""A record is repeated within the batches that a crash cut off, a few hundred outcomes later."""
OFFSETS_REMEMBERED = 100_000
"""Offsets of repeated records, the latest (of about 100 to 1,000 crashes), for lines that are rebuilt from history."""


class RepeatedRecords:
    """The ids of the latest outcomes of a loop, and the offsets of those that were published again."""

    def __init__(self) -> None:
        self.offsets: dict[int, None] = {}  # a set that knows its oldest member
        self._recent: deque[bytes] = deque()
        self._known: set[bytes] = set()

    def remember(self, outcome: Outcome) -> bool:
        """Remember a record; False where one with this id is remembered already, from an earlier offset."""
        digest = blake2b(outcome.id.encode(), digest_size=8).digest()
        if digest in self._known:
            self.offsets[outcome.offset] = None
            if len(self.offsets) > OFFSETS_REMEMBERED:
                del self.offsets[next(iter(self.offsets))]
            return False
        self._recent.append(digest)
        self._known.add(digest)
        if len(self._recent) > IDS_REMEMBERED:
            self._known.discard(self._recent.popleft())
        return True

    def forget_offsets(self) -> None:
        """Forget which offsets were repeated, where no line is rebuilt from history."""
        self.offsets.clear()
