"""How long the client waits before it retries, and when it gives up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

RETRIED = frozenset({408, 429, 502, 503, 504})
"""Statuses after which the same request may succeed; every request of the client is idempotent by its ids."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
LONGEST_RETRY_AFTER_S = 60.0
"""The most that the client waits because a server asks for it."""


class Attempts:
    """The attempts at one request: pauses that double, with jitter, for `retry_for` seconds in all."""

    def __init__(self, retry_for: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = clock() + retry_for
        self._made = 0

    def pause(self, retry_after: float | None = None) -> float | None:
        """Seconds to wait now (at least what the server asked for); None when it is time to give up."""
        ceiling = min(FIRST_PAUSE_S * 2.0 ** min(self._made, 10), LONGEST_PAUSE_S)
        self._made += 1
        wait = max(random.uniform(ceiling / 2, ceiling), retry_after or 0.0)
        return wait if self._clock() + wait <= self._until else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds in a Retry-After header; None where there is none, or a date."""
    value = headers.get("retry-after", "")
    return min(float(value), LONGEST_RETRY_AFTER_S) if value.isdecimal() else None
