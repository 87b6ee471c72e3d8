"""Our images in real pods close the loop, as the chart installs them, and lose nothing when scaled or upgraded.

All are in one module, because their node ends with it: that takes minutes, and no other rig with pods can start before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.journal import Journal
from tests.integrations.environments import environment
from tests.kubernetes.cluster import rig, started_cluster
from tests.kubernetes.images import backing_images, build_images, images_of_commit
from tests.kubernetes.pods import CHECKED, FEWER, LAST_RELEASE, MORE, NAMESPACE, RELEASE, Pods, lost

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(3_600)]
THIS = "this"
BACKING_MANIFESTS = Path(__file__).with_name("backing.yaml")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    """A node that runs pods, with Kafka and PostgreSQL, and the images of this tree under the tag `this`."""
    made = environment("kubernetes_pods")
    images = [*build_images(THIS), *backing_images()]
    folder = tmp_path_factory.mktemp("pods") / "rig"
    with started_cluster(made, folder, "--pods") as started:
        rig("load", str(folder), *images)
        started.kubectl("create", "namespace", NAMESPACE)
        started.kubectl("--namespace", NAMESPACE, "create", "-f", str(BACKING_MANIFESTS))
        started.kubectl("--namespace", NAMESPACE, "rollout", "status", "deployment/kafka", "--timeout=300s")
        started.kubectl("--namespace", NAMESPACE, "rollout", "status", "deployment/postgres", "--timeout=300s")
        yield Pods(started, folder)


@pytest.fixture
def pods(node: Pods) -> Pods:
    """The node, with nothing installed and empty topics."""
    node.clear()
    return node


@pytest.fixture
def last_release(pods: Pods, tmp_path_factory: pytest.TempPathFactory) -> Pods:
    """The release before this one, with the loops of the chaos run."""
    rig("load", str(pods.folder), *images_of_commit(LAST_RELEASE.commit, tmp_path_factory.mktemp("last-release")))
    pods.install(LAST_RELEASE.commit, *LAST_RELEASE.options)
    pods.apply_all()
    return pods


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
