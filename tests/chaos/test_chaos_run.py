"""A short chaos run, as part of the tests; the long one is `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.chaos.run import ChaosPlan, chaos

pytestmark = [pytest.mark.chaos, pytest.mark.journey, pytest.mark.timeout(400)]


@pytest.mark.promise(1)
async def test_a_short_chaos_run_loses_nothing_and_duplicates_nothing(tmp_path: Path) -> None:
    report = await chaos(ChaosPlan(tmp_path / "installation", seconds=30, seed=4, every=3, rate=30, stop_s=12))

    assert not report.findings.found, report.text()
    assert report.faults.done["kill"] >= 3
    assert report.journal.acknowledged > 100
