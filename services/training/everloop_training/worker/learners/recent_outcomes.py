"""The last outcomes of a loop, in memory, for lines that start a short way back."""

from __future__ import annotations

from collections import deque
from itertools import islice

from everloop_learning.outcome import Outcome
from everloop_models.explain import IMPORTANCE_ROWS
from everloop_schemas.envelope import Fields

RECENT_OUTCOMES = 3000
OPENED_S = 60.0
"""How long an outcome with personal values may be learned from memory: after that it is opened again."""


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
            self._evict()

    def expire(self, now: float) -> None:
        """Learn no outcome any more whose personal values were opened long before `now`, seconds since the epoch.

        Its person may have been erased since. The features of the last few stay, for the importance of features alone.
        """
        known, since = self._outcomes, now - OPENED_S
        if not known or not (known[0].opened or known[-1].opened):
            return
        while len(known) > IMPORTANCE_ROWS and known[0].opened < since:
            self._evict()
        if known[0].opened < since:
            last = next(o for o in reversed(known) if o.opened < since)
            self.complete_from = max(self.complete_from, last.offset + 1)

    def latest_features(self, count: int) -> list[Fields]:
        """The features of the last outcomes, oldest first."""
        return [outcome.features for outcome in islice(reversed(self._outcomes), count)][::-1]

    def since(self, offset: int) -> list[Outcome]:
        """The outcomes from an offset on, oldest first."""
        return [o for o in self._outcomes if o.offset >= offset]

    def _evict(self) -> None:
        oldest = self._outcomes.popleft()
        self._bytes -= oldest.size
        self.complete_from = max(self.complete_from, oldest.offset + 1)
