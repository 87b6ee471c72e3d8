"""Pods of the last release are replaced by those of this tree under load, and no prediction fails."""

from __future__ import annotations

import asyncio

import pytest
from tests.chaos.journal import Journal
from tests.kubernetes.cluster import rig
from tests.kubernetes.conftest import THIS
from tests.kubernetes.images import images_of_commit
from tests.kubernetes.pods import LAST_RELEASE, Pods, lost

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(3_600)]


@pytest.fixture
def last_release(pods: Pods, tmp_path_factory: pytest.TempPathFactory) -> Pods:
    """The release before this one, with the loops of the chaos run."""
    rig("load", str(pods.folder), *images_of_commit(LAST_RELEASE.commit, tmp_path_factory.mktemp("last-release")))
    pods.install(LAST_RELEASE.commit, *LAST_RELEASE.options)
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
