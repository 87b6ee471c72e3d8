"""The wall clock as a port, so that rules stay pure and tests can set the time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def log_time(timestamp_ms: int | None, now_ms: int) -> int:
    """The timestamp of a record in ms since the epoch, at most `now_ms`; 0 where it has none.

    Producers set timestamps. A timestamp in the future must not make other entries expire, or wait.
    """
    return min(max(timestamp_ms or 0, 0), now_ms)
