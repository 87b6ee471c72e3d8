"""How long the client waits before it retries, and when it gives up."""

from __future__ import annotations

from collections.abc import Mapping

from everloop_shared.backoff import Backoff

RETRIED = frozenset({408, 429, 502, 503, 504})
"""Statuses after which the same request may succeed; every request of the client is idempotent by its ids."""
BACKOFF = Backoff(first_s=0.1, longest_s=5.0)
LONGEST_RETRY_AFTER_S = 60.0
"""The most that the client waits because a server asks for it."""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds in a Retry-After header; None where there is none, or a date."""
    value = headers.get("retry-after", "")
    return min(float(value), LONGEST_RETRY_AFTER_S) if value.isdecimal() else None
