"""Times that come from outside are read as RFC 3339 says, and bounded by our own clock."""

from __future__ import annotations

import pytest

from everloop_shared.clock import log_time, read_time

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("timestamp_ms", "expected"), [(None, 0), (-1, 0), (0, 0), (1_300_000_000_000, 1_300_000_000_000)]
)
def test_a_record_has_the_timestamp_of_its_producer(timestamp_ms: int | None, expected: int) -> None:
    assert log_time(timestamp_ms, NOW_MS) == expected


def test_a_record_is_never_from_the_future() -> None:
    assert log_time(1 << 62, NOW_MS) == NOW_MS


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-05-01T12:00:00Z", "2024-05-01T12:00:00+00:00"),
        ("2024-05-01t12:00:00z", "2024-05-01T12:00:00+00:00"),
        ("2024-05-01 14:00:00.5+02:00", "2024-05-01T12:00:00.500000+00:00"),
        ("2024-05-01T12:00:00-00:00", "2024-05-01T12:00:00+00:00"),
        ("2024-05-01t12:00:00.123456789z", "2024-05-01T12:00:00.123456+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
        ("2016-12-31t18:59:60.25-05:00", "2017-01-01T00:00:00.250000+00:00"),
    ],
)
def test_every_time_of_rfc_3339_is_read(text: str, time: str) -> None:
    moment = read_time(text)

    assert moment is not None
    assert moment.isoformat() == time


@pytest.mark.parametrize(
    "text",
    "|now|2024-05-01|2024-05-01T12:00:00|2024-05-01T12:60:00Z|2024-05-01T12:00:60Z|2024-05-01T12:00:61Z|"
    "0001-01-01T00:00:00+14:00|9999-12-31T23:59:60Z|2024-05-01T12:00:00zz|9999999999999999999999999".split("|"),
)
def test_what_is_no_time_of_rfc_3339_is_not_read(text: str) -> None:
    assert read_time(text) is None
