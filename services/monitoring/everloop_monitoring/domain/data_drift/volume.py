"""How many records come in an hour, beside what is usual for that hour of the week."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

HOUR_S, DAY_HOURS, WEEK_HOURS = 3600, 24, 168
REMEMBERED = 8
"""What is usual is a moving mean over about so many days or weeks."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Usual = tuple[float, int]
"""The mean, and over how many hours."""


@dataclass(slots=True)
class Volume:
    """Counts by the hour; `hour` is counted from 1970. The first hour is not whole, and belongs to no mean.

    `by_week` and `by_day` are what is usual by hour of the week and of the day. What is late counts now.
    """

    hour: int | None = None
    count: int = 0
    is_whole: bool = False
    by_week: dict[int, Usual] = field(default_factory=dict)
    by_day: dict[int, Usual] = field(default_factory=dict)

    def add(self, time: datetime) -> None:
        """Count a record of this time."""
        hour = int(time.timestamp()) // HOUR_S
        if self.hour is None or hour > self.hour:
            self._begin(hour)
        self.count += 1

    def _begin(self, hour: int) -> None:
        if self.hour is not None:
            if self.is_whole:
                self._note(self.hour, self.count)
            for empty in range(max(self.hour + 1, hour - WEEK_HOURS), hour):
                self._note(empty, 0)
            self.is_whole = True
        self.hour, self.count = hour, 0

    def _note(self, hour: int, count: int) -> None:
        for usual, slot in ((self.by_week, hour % WEEK_HOURS), (self.by_day, hour % DAY_HOURS)):
            mean, n = usual.get(slot, (0.0, 0))
            n = min(n + 1, REMEMBERED)
            usual[slot] = (mean + (count - mean) / n, n)

    def render(self) -> dict[str, Any] | None:
        """The present hour and what is usual for it: of two weeks at least, else of days; None before the first."""
        if self.hour is None:
            return None
        of_week, of_day = self.by_week.get(self.hour % WEEK_HOURS), self.by_day.get(self.hour % DAY_HOURS)
        usual = of_week if of_week and of_week[1] > 1 else of_day
        began = EPOCH + timedelta(hours=self.hour)
        return {"hour": began.isoformat(), "predictions": self.count, "usual": usual[0] if usual else None}
