"""Which times an event or a label may have: one rule wherever a record enters, without overflows; pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOG_TOLERANCE = 2.0
"""A time on a topic may lie this many times further ahead than at an endpoint, whose clock may differ from ours."""


@dataclass(frozen=True)
class TimeLimits:
    """Times from `earliest` to `future_s` seconds after now are accepted (settings EARLIEST_TIME, MAX_FUTURE_S)."""

    earliest: datetime = EPOCH
    future_s: float = 300.0

    def find_violation(self, time: datetime | None, now: datetime, tolerance: float = 1.0) -> str | None:
        """Why a time is refused, and the fix; `tolerance` multiplies `future_s`. None where it is accepted, or None."""
        if time is None or self.earliest <= time <= now:  # nearly always
            return None
        if time < self.earliest:
            return _violation(time, f"must not be before {self.earliest.isoformat()}")
        if (time - now).total_seconds() <= self.future_s * tolerance:
            return None
        return _violation(time, f"must not be more than {self.future_s:g} s in the future")


DEFAULT_TIME_LIMITS = TimeLimits()
"""The limits that the settings have by default."""


def _violation(time: datetime, bound: str) -> str:
    return f"is {time.isoformat()}, and {bound}; leave it out where it is not known"


def is_later(time: datetime, than: datetime, by_s: float) -> bool:
    """Whether a time is more than `by_s` seconds after another; compares a difference, as a sum can overflow."""
    return (time - than).total_seconds() > by_s


def to_micros(time: datetime) -> int:
    """Microseconds since the epoch, exact, below zero before it."""
    since = time - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
