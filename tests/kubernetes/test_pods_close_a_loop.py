"""Our images in real pods close the loop, as the chart installs them, and lose nothing when they are scaled."""

from __future__ import annotations

import pytest
from tests.chaos.journal import Journal
from tests.kubernetes.conftest import THIS
from tests.kubernetes.pods import CHECKED, FEWER, MORE, RELEASE, Pods, lost

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(3_600)]


async def test_pods_close_loops_what_they_wrote_holds_and_helm_test_passes(pods: Pods) -> None:
    pods.install(THIS)
    pods.apply_all()
    journal = Journal()

    async with pods.loaded(journal) as load:
        await pods.wait_for_outcomes(100)
    findings = await pods.check(journal)
    said = pods.helm("test", RELEASE, "--timeout", "600s", "--logs")

    assert (lost(findings), journal.surprises) == ([], [])
    assert load.answers["predict"].keys() == {200}
    assert findings.figures.keys() >= CHECKED
    assert "the loop is closed" in said


async def test_scaling_up_and_down_under_load_loses_nothing(pods: Pods) -> None:
    pods.install(THIS)
    pods.apply_all()
    journal = Journal()

    async with pods.loaded(journal) as load:
        await pods.scale_all(MORE)
        await pods.wait_for_outcomes(50)
        await pods.scale_all(FEWER)
        await pods.wait_for_outcomes(50)

    findings = await pods.check(journal)
    assert (lost(findings), journal.surprises) == ([], [])
    assert load.answers["predict"].keys() == {200}
