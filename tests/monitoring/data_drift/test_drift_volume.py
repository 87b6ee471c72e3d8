"""What is usual for an hour: of the same hour of the week once that is known, else of the day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from everloop_monitoring.domain.data_drift.volume import Volume

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def fill(volume: Volume, hours: int, start: int = 0) -> None:
    """Two a minute by day and on workdays, one an hour else."""
    for hour in range(start, start + hours):
        time = MONDAY + hour * HOUR
        busy = 8 <= time.hour < 20 and time.weekday() < 5
        for i in range(120 if busy else 1):
            volume.add(time + i * timedelta(seconds=30))


def test_the_first_hour_is_usual_for_nothing() -> None:
    volume = Volume()

    fill(volume, 1, start=9)
    alone = volume.render()
    fill(volume, 1, start=10)

    assert alone == {"hour": "2026-01-05T09:00:00+00:00", "predictions": 120, "usual": None}
    assert (volume.by_day, volume.by_week) == ({}, {})


def test_an_hour_of_the_week_is_usual_after_two_weeks_and_one_of_the_day_before() -> None:
    volume = Volume()

    fill(volume, 5 * 24 + 11)
    after_days = volume.render()
    fill(volume, 2 * 168 + 24, start=5 * 24 + 11)
    fill(volume, 1, start=7 * 168 // 2 + 1000)

    assert after_days
    assert (after_days["predictions"], after_days["usual"]) == (1, 120)
    assert volume.by_week[volume.hour % 168 - 1 if volume.hour else 0][1] >= 1
    assert (len(volume.by_week), len(volume.by_day)) == (168, 24)


def test_hours_without_a_record_count_as_empty_and_what_is_late_counts_now() -> None:
    volume = Volume()
    fill(volume, 2, start=9)

    volume.add(MONDAY + 34 * HOUR)
    volume.add(MONDAY + 9 * HOUR)

    shown = volume.render()
    assert shown
    assert (shown["predictions"], shown["usual"]) == (2, 120)
    assert volume.by_day[3] == (0.0, 1)
    assert TypeAdapter(Volume).validate_json(TypeAdapter(Volume).dump_json(volume)) == volume
