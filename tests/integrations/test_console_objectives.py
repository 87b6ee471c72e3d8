"""Objectives on the console in a real Chromium: the course of the share of cases in time, beside what is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.builders.events import prediction_made
from tests.builders.loops import loop_spec, loop_state
from tests.everloop.served_services import served
from tests.integrations.chromium import executable, visit

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(120)]


async def test_each_objective_has_a_bar_for_each_part_of_its_spans_and_says_them_in_words(tmp_path: Path) -> None:
    executable()
    now = datetime.now(UTC)
    spec = loop_spec(monitor={"objectives": {"prediction": {"within": "1s", "share": 0.9}}})
    with served(tmp_path, "monitoring") as services:
        services.publish(loop_state(spec))
        for n in range(60):  # the first half is in time, of the second every other one
            at = now - timedelta(minutes=90 - 1.5 * n)
            late_s = 2.0 if n >= 30 and n % 2 else 0.1
            services.publish(prediction_made(f"p{n}", observed=at, time=at + timedelta(seconds=late_s)))
        async with visit(services.urls["monitoring"]) as seen:
            await seen.page.wait_for_selector("#objectives td:text-is('60')")

            pictures = seen.page.locator("#objectives svg")
            said = [await picture.get_attribute("aria-label") for picture in await pictures.all()]
            bars = await pictures.first.locator("rect").count()
            broken = await pictures.first.locator("rect[fill='var(--drift)']").count()

            assert len(said) == 2
            assert all("asked 90.00\u00a0%" in (one or "") for one in said)
            assert 18 <= bars <= 20
            assert 9 <= broken <= 11
            assert await seen.findings() == []
            assert seen.errors == seen.foreign == []
