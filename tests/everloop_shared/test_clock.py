"""Times that come from outside are bounded by our own clock."""

from __future__ import annotations

import pytest

from everloop_shared.clock import log_time

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("timestamp_ms", "expected"), [(None, 0), (-1, 0), (0, 0), (1_300_000_000_000, 1_300_000_000_000)]
)
def test_a_record_has_the_timestamp_of_its_producer(timestamp_ms: int | None, expected: int) -> None:
    assert log_time(timestamp_ms, NOW_MS) == expected


def test_a_record_is_never_from_the_future() -> None:
    assert log_time(1 << 62, NOW_MS) == NOW_MS
