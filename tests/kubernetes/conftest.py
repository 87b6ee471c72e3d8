"""The Kubernetes that tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integrations.environments import Environment, environment
from tests.kubernetes.cluster import Cluster, started_cluster


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
