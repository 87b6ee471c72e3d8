"""How many runs people may request per loop and hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from everloop_schemas.training import RunRequested
from everloop_training.errors import TooManyRuns

HOUR = timedelta(hours=1)


class RunQuota:
    """Counts the manual runs of the last hour, and the requests that are still being handled."""

    def __init__(self, max_per_hour: int) -> None:
        self._max_per_hour = max_per_hour
        self._in_progress: Counter[str] = Counter()

    @contextmanager
    def admit(self, loop: str, key: str, runs: Sequence[RunRequested], now: datetime) -> Iterator[None]:
        """Count a request while it is handled; raises TooManyRuns, but not for the key of one of the loop's runs."""
        recent = sum(run.data.trigger == "manual" and run.time > now - HOUR for run in runs)
        known = any(run.data.key == key for run in runs)
        if not known and recent + self._in_progress[loop] >= self._max_per_hour:
            raise TooManyRuns(
                f"{self._max_per_hour} runs of {loop} were requested within an hour, the limit "
                "(EVERLOOP_TRAINING_MAX_RUNS_PER_HOUR); retry later, or use the key of one of them"
            )
        self._in_progress[loop] += 1
        try:
            yield
        finally:
            self._in_progress[loop] -= 1
            self._in_progress += Counter()  # drops loops at 0
