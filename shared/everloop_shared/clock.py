"""The wall clock as a port, so that rules stay pure and tests can set the time."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
MAX_TIME_LENGTH = 64
_LEAP_SECOND = re.compile(r"(?<=:59):60(?=[.Z+-])")


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def read_time(text: str) -> datetime | None:
    """The time in a text as of RFC 3339, in UTC; None where it is none, or has no offset.

    A leap second is the second that follows it, as there is no name for it in a count of seconds.
    """
    if len(text) > MAX_TIME_LENGTH:
        return None
    try:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:  # which reads neither `z` nor a leap second
            plain, leaps = _LEAP_SECOND.subn(":59", text.upper())
            moment = datetime.fromisoformat(plain) + timedelta(seconds=leaps)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def log_time(timestamp_ms: int | None, now_ms: int) -> int:
    """The timestamp of a record in ms since the epoch, at most `now_ms`; 0 where it has none.

    Producers set timestamps. A timestamp in the future must not make other entries expire, or wait.
    """
    return min(max(timestamp_ms or 0, 0), now_ms)
