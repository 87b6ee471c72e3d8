"""The wall clock as a port, so that rules stay pure and tests can turn it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def log_time(timestamp_ms: int | None) -> int:
    """When a record was put on the log, in ms since the epoch: what its producer told, 0 where that is nothing.

    Never later than now: the timestamp of a record is its producer's to write, and nothing may expire, or wait, by a
    time that has not come.
    """
    return min(max(timestamp_ms or 0, 0), int(time.time() * 1000))
