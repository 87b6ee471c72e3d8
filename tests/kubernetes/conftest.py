"""The Kubernetes that tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integrations.environments import Environment, environment
from tests.kubernetes.cluster import Cluster, rig, started_cluster
from tests.kubernetes.images import backing_images, build_images
from tests.kubernetes.pods import NAMESPACE, Pods

THIS = "this"
BACKING_MANIFESTS = Path(__file__).with_name("backing.yaml")


@pytest.fixture(scope="session")
def made() -> Environment:
    """The programs of the rig; a test that asks is skipped where they could not be made."""
    return environment("kubernetes")


@pytest.fixture(scope="session")
def cluster(made: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """API server, controllers, scheduler, and three nodes by KWOK: `.kubeconfig`, `.kubectl(*args)`, `.helm(*args)`.

    It is shared: work in a namespace of your own, and leave nothing that has none.
    """
    with started_cluster(made, tmp_path_factory.mktemp("kubernetes") / "rig") as started:
        yield started


@pytest.fixture
def pods(node: Pods) -> Pods:
    """The node, with nothing installed and empty topics."""
    node.clear()
    return node


@pytest.fixture(scope="session")
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
