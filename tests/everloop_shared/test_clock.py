"""Times that come from outside are bounded by our own clock."""

from __future__ import annotations

import time

import pytest

from everloop_shared.clock import log_time


@pytest.mark.parametrize(("told", "believed"), [(None, 0), (-1, 0), (0, 0), (1_300_000_000_000, 1_300_000_000_000)])
def test_a_record_is_as_old_as_its_producer_says(told: int | None, believed: int) -> None:
    assert log_time(told) == believed


def test_a_record_is_never_from_the_future() -> None:
    assert log_time(1 << 62) <= time.time() * 1000
