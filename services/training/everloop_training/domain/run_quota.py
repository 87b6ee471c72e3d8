"""How many runs, and how many searches, people may request per loop and hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

from everloop_training.errors import TooManyRuns

HOUR = timedelta(hours=1)


class Requested(NamedTuple):
    """What a person requested: its key, and when."""

    key: str
    time: datetime


class RunQuota:
    """Counts what people requested within the last hour, and the requests that are still being handled."""

    def __init__(self, max_per_hour: int, what: str = "runs") -> None:
        self._max_per_hour, self._what = max_per_hour, what
        self._in_progress: Counter[str] = Counter()

    @contextmanager
    def admit(self, loop: str, key: str, requested: Sequence[Requested], now: datetime) -> Iterator[None]:
        """Count a request while it is handled; raises TooManyRuns, but not for a key that was requested before."""
        recent = sum(each.time > now - HOUR for each in requested)
        known = any(each.key == key for each in requested)
        if not known and recent + self._in_progress[loop] >= self._max_per_hour:
            raise TooManyRuns(
                f"{self._max_per_hour} {self._what} of {loop} were requested within an hour, the limit "
                f"(EVERLOOP_TRAINING_MAX_{self._what.upper()}_PER_HOUR); retry later, or use the key of one of them"
            )
        self._in_progress[loop] += 1
        try:
            yield
        finally:
            self._in_progress[loop] -= 1
            self._in_progress += Counter()  # drops loops at 0
