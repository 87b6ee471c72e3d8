"""Which times an event or a label may say: one rule wherever a record enters, and times that cannot overflow; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ON_THE_LOG = 2.0
"""How much further ahead a time may lie on a topic than at a door, whose clock differs from the reader's by as much."""


@dataclass(frozen=True)
class TimeLimits:
    """Times from `earliest` to `future_s` seconds after now are believed (settings EARLIEST_TIME, MAX_FUTURE_S)."""

    earliest: datetime = EPOCH
    future_s: float = 300.0

    def wrong(self, said: datetime | None, now: datetime, times: float = 1.0) -> str | None:
        """What is wrong with a time, and the fix; `times` widens the future. None where it is good, or not said."""
        if said is None or self.earliest <= said <= now:  # nearly always
            return None
        if said < self.earliest:
            return _outside(said, f"must not be before {self.earliest.isoformat()}")
        if (said - now).total_seconds() <= self.future_s * times:
            return None
        return _outside(said, f"must not be more than {self.future_s:g} s in the future")


USUAL_TIMES = TimeLimits()
"""The limits where no setting says otherwise."""


def _outside(said: datetime, bound: str) -> str:
    return f"is {said.isoformat()}, and {bound}; leave it out where it is not known"


def later(said: datetime, than: datetime, by_s: float) -> bool:
    """Whether a time is more than `by_s` seconds after another: a difference, since a sum can pass the year 9999."""
    return (said - than).total_seconds() > by_s


def micros(said: datetime) -> int:
    """Microseconds since the epoch, exact, below zero before it."""
    return (said - EPOCH) // timedelta(microseconds=1)
