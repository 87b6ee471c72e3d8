"""The real Ray that integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integrations.environments import Environment, environment
from tests.integrations.ray_cluster import RayCluster, ray_cluster


@pytest.fixture(scope="session")
def ray() -> Environment:
    """The environment with Ray."""
    return environment("ray")


@pytest.fixture(scope="session")
def cluster(ray: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Two workers that all tests share."""
    with ray_cluster(ray, tmp_path_factory.mktemp("ray")) as started:
        yield started
