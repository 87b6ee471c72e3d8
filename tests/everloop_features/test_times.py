"""Which times are believed, and that comparing them never overflows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop_features.times import LOG_TOLERANCE, TimeLimits, is_later, to_micros

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))])
ANY_TIME = st.datetimes(timezones=ZONES)


@pytest.mark.parametrize(
    ("time", "wrong"),
    [
        (None, None),
        (NOW, None),
        (NOW + timedelta(seconds=300), None),
        (datetime(2012, 1, 1, tzinfo=UTC), None),
        (datetime(1970, 1, 1, tzinfo=UTC), None),
        (NOW + timedelta(seconds=301), "more than 300 s in the future"),
        (datetime(2099, 1, 1, tzinfo=UTC), "in the future"),
        (datetime.max.replace(tzinfo=UTC), "in the future"),
        (datetime(1969, 12, 31, tzinfo=UTC), "before 1970"),
        (datetime.min.replace(tzinfo=UTC), "before 1970"),
    ],
)
def test_times_are_accepted_from_1970_to_five_minutes_ahead(time: datetime | None, wrong: str | None) -> None:
    violation = TimeLimits().find_violation(time, NOW)

    assert (violation is None) == (wrong is None)
    assert wrong is None or wrong in (violation or "")


def test_a_time_that_an_endpoint_accepted_is_accepted_on_the_log_by_a_clock_that_is_behind() -> None:
    time, behind = NOW + timedelta(seconds=300), NOW - timedelta(seconds=299)

    assert TimeLimits().find_violation(time, behind, LOG_TOLERANCE) is None


@given(ANY_TIME, ANY_TIME, st.floats(0, 1e300))
def test_no_pair_of_times_overflows(a: datetime, b: datetime, seconds: float) -> None:
    answers = TimeLimits().find_violation(a, b), is_later(a, b, seconds), to_micros(a)

    assert isinstance(answers[2], int)
    assert answers[1] == ((a - b).total_seconds() > seconds)
