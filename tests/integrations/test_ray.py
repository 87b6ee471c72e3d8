"""Searches and batch trainings on a real Ray with two workers."""

from __future__ import annotations

import subprocess

import pytest
from tests.integrations.environments import Environment, environment

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def ray() -> Environment:
    """The environment with Ray."""
    return environment("ray")


def test_ray_is_installed_beside_the_packages_of_the_training_service(ray: Environment) -> None:
    command = [ray.python, "-c", "import ray, river, sklearn, onnxruntime, optuna; print(ray.__version__)"]

    assert subprocess.check_output(command, env=ray.variables, text=True) == "2.60.0\n"
