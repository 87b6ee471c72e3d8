"""The times of a cron schedule, five fields in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
HORIZON_DAYS = 366 * 5
LATEST_START = datetime(9990, 1, 1, tzinfo=UTC).timestamp()
"""Later times count as this one, so that the horizon lies before the year 10000."""
PART = re.compile(r"(?:\*|0*(?P<first>[0-9]{1,2})(?:-0*(?P<last>[0-9]{1,2}))?)(?:/0*(?P<step>[0-9]{1,18}))?")


class Cron:
    """`minute hour day month weekday`, each `*`, `a`, `a-b`, `*/n`, `a-b/n` or a list; weekday 0 and 7 are Sunday.

    As in cron, where both day and weekday are given either may match. Raises ValueError naming what is wrong.
    """

    def __init__(self, expression: str) -> None:
        parts = expression.split()
        if len(parts) != len(BOUNDS):
            raise ValueError('must have five fields, minute hour day month weekday, such as "0 3 * * *"')
        minutes, hours, days, months, weekdays = (_values(p, *b) for p, b in zip(parts, BOUNDS, strict=True))
        self._times = [(h, m) for h in sorted(hours) for m in sorted(minutes)]
        self._days, self._months, self._weekdays = days, months, {d % 7 for d in weekdays}
        self._either = parts[2] != "*" and parts[4] != "*"

    def next(self, after: float) -> float | None:
        """The first time it fires after `after` (seconds since the epoch), None where it never does."""
        start = datetime.fromtimestamp(min(max(after, 0.0), LATEST_START), UTC)
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        for i in range(HORIZON_DAYS):
            day = midnight + timedelta(days=i)
            if self._fires_on(day):
                for hour, minute in self._times:
                    if (at := day.replace(hour=hour, minute=minute)) > start:
                        return at.timestamp()
        return None

    def _fires_on(self, day: datetime) -> bool:
        by_date, by_weekday = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        return day.month in self._months and (by_date or by_weekday if self._either else by_date and by_weekday)


def _values(field: str, low: int, high: int) -> set[int]:
    values: set[int] = set()
    for part in field.split(","):
        match = PART.fullmatch(part)
        if not match:
            raise ValueError(f"{field[:40]!r} is not a cron field; write *, a number, a range a-b, or */n")
        first, last, step = match["first"], match["last"], match["step"]
        start = low if first is None else int(first)
        stop = high if first is None or (step and last is None) else int(last or start)
        if not (low <= start <= high and low <= stop <= high) or step == "0":
            raise ValueError(f"{field[:40]!r} must lie between {low} and {high}, with a step of 1 at least")
        values.update(range(start, stop + 1, int(step or 1)))
    if not values:
        raise ValueError(f"{field[:40]!r} never matches; write the smaller number first")
    return values
