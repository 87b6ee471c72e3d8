"""Our images in real pods close the loop, as the chart installs them, and lose nothing when they are scaled."""

from __future__ import annotations

import asyncio

import pytest
from tests.chaos.journal import Journal
from tests.chaos.load import loaded
from tests.kubernetes.conftest import THIS
from tests.kubernetes.pods import CHECKED, RELEASE, SCALED, Pods

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(3_600)]


async def test_pods_close_loops_what_they_wrote_holds_and_helm_test_passes(pods: Pods) -> None:
    pods.install(THIS)
    pods.apply_all()
    journal = Journal()

    async with loaded(pods.urls().get, journal) as load:
        await pods.wait_for_outcomes(100)
    findings = await pods.check(journal)
    said = pods.helm("test", RELEASE, "--timeout", "600s", "--logs")

    assert (findings.found, journal.surprises) == ([], [])
    assert load.answers["predict"].keys() == {200}
    assert findings.figures.keys() >= CHECKED
    assert "the loop is closed" in said


async def test_scaling_up_and_down_under_load_loses_nothing(pods: Pods) -> None:
    pods.install(THIS)
    pods.apply_all()
    journal = Journal()

    async with loaded(pods.urls().get, journal) as load:
        for name, (more, fewer) in SCALED.items():
            await asyncio.to_thread(pods.scale, name, more)
            await pods.wait_for_outcomes(20)
            await asyncio.to_thread(pods.scale, name, fewer)
        await pods.wait_for_outcomes(20)

    findings = await pods.check(journal)
    assert (findings.found, journal.surprises) == ([], [])
    assert load.answers["predict"].keys() == {200}
