"""The last outcomes of a loop, in memory, for lines that start a short way back."""

from __future__ import annotations

from collections import deque
from itertools import islice

from everloop_learning.outcome import Outcome
from everloop_schemas.envelope import Fields

RECENT_OUTCOMES = 3000


class RecentOutcomes:
    """The last learnable outcomes; none from `complete_from` on is missing."""

    def __init__(self, next_offset: int) -> None:
        self.complete_from = next_offset
        self._outcomes: deque[Outcome] = deque()
        self._bytes = 0

    def add(self, outcome: Outcome, max_bytes: int) -> None:
        """Add the newest outcome, and evict the oldest beyond `RECENT_OUTCOMES` or `max_bytes`."""
        self._outcomes.append(outcome)
        self._bytes += outcome.size
        while len(self._outcomes) > RECENT_OUTCOMES or self._bytes > max_bytes:
            oldest = self._outcomes.popleft()
            self._bytes -= oldest.size
            self.complete_from = oldest.offset + 1

    def latest_features(self, count: int) -> list[Fields]:
        """The features of the last outcomes, oldest first."""
        return [outcome.features for outcome in islice(reversed(self._outcomes), count)][::-1]

    def since(self, offset: int) -> list[Outcome]:
        """The outcomes from an offset on, oldest first."""
        return [o for o in self._outcomes if o.offset >= offset]
