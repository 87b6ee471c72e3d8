"""Pods of the last release are replaced by those of this tree under load, and no request fails."""

from __future__ import annotations

import asyncio
import subprocess

import pytest
from tests.chaos.journal import Journal
from tests.kubernetes.cluster import ROOT, rig
from tests.kubernetes.conftest import THIS
from tests.kubernetes.images import build_images
from tests.kubernetes.pods import LAST_RELEASE, Pods, lost

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(3_600)]


@pytest.fixture
def last_release(pods: Pods, tmp_path_factory: pytest.TempPathFactory) -> Pods:
    """The release before this one, with the loops of the chaos run."""
    source = tmp_path_factory.mktemp("last-release")
    archive = subprocess.run(["git", "archive", LAST_RELEASE.commit], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x"], cwd=source, input=archive.stdout, check=True)
    rig("load", str(pods.folder), *build_images(LAST_RELEASE.tag, source))
    pods.install(LAST_RELEASE.tag, *LAST_RELEASE.options)
    pods.apply_all()
    return pods


async def test_a_rolling_upgrade_under_load_refuses_no_prediction_and_loses_nothing(last_release: Pods) -> None:
    journal = Journal()
    async with last_release.loaded(journal) as load:
        await last_release.wait_for_outcomes(50)
        await asyncio.to_thread(last_release.install, THIS)
        await last_release.wait_for_outcomes(50)

    findings = await last_release.check(journal)
    assert load.answers["predict"].keys() == {200}
    assert (lost(findings), journal.surprises) == ([], [])
    assert {image.rpartition(":")[2] for image in last_release.images()} == {THIS}
