"""Schedules in the five fields of cron."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from tests.training.training_harness import event, spec

from everloop_learning.outcome import Outcome
from everloop_schemas.cron import Cron
from everloop_training.worker.learners.triggers import RunTriggers

MONDAY = datetime(2026, 6, 1, 2, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 3 * * *", datetime(2026, 6, 1, 3, 0, tzinfo=UTC)),
        ("*/20 * * * *", datetime(2026, 6, 1, 2, 40, tzinfo=UTC)),
        ("30 2 * * *", datetime(2026, 6, 2, 2, 30, tzinfo=UTC)),
        ("0 9-17/4 * * 1-5", datetime(2026, 6, 1, 9, 0, tzinfo=UTC)),
        ("0 0 * * 7", datetime(2026, 6, 7, 0, 0, tzinfo=UTC)),
        ("0 0 15 * 0", datetime(2026, 6, 7, 0, 0, tzinfo=UTC)),
        ("0 0 29 2 *", datetime(2028, 2, 29, 0, 0, tzinfo=UTC)),
        ("0 0 31 2 *", None),
    ],
)
def test_a_schedule_fires_next_when_cron_says(expression: str, expected: datetime | None) -> None:
    found = Cron(expression).next(MONDAY.timestamp())

    assert found == (expected.timestamp() if expected else None)


@pytest.mark.parametrize("after", [-1e18, 253402300799.0, 1e18])
def test_a_schedule_fires_after_any_time(after: float) -> None:
    found = Cron("0 3 * * *").next(after)

    assert found is not None


def test_a_label_dated_as_its_sender_likes_moves_no_schedule() -> None:
    triggers, daily = RunTriggers(), spec(retrain={"on_schedule": "0 3 * * *"})
    strange = event(0).copy_with(time=datetime(9999, 12, 31, tzinfo=UTC))

    fired = [
        triggers.find_due(daily, Outcome.from_event(strange if i == 1 else event(i), i, logged_ms), i)
        for i, logged_ms in enumerate(int((MONDAY.timestamp() + h * 3600) * 1000) for h in range(0, 30))
    ]

    assert [i for i, due in enumerate(fired) if due] == [i for i in range(30) if (MONDAY.hour + i) % 24 == 3]


@pytest.mark.parametrize("expression", ["hourly", "0 3 * *", "61 * * * *", "a * * * *", "*/0 * * * *"])
def test_an_invalid_schedule_is_refused_by_the_spec(expression: Any) -> None:
    with pytest.raises(ValidationError, match=r"retrain\.on_schedule"):
        spec(retrain={"on_schedule": expression})
