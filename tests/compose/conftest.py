"""The compose tests run where they are asked for and an engine answers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
import yaml
from tests.compose.stack import ROOT, Stack

UP = ("--profile", "secure", "up", "--build", "--detach", "--wait", "--wait-timeout", "300")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip them with the reason, rather than build six images in every `make test`."""
    reason = None if "compose" in config.option.markexpr else "builds images and starts containers: pytest -m compose"
    for item in items:
        if item.get_closest_marker("compose") and (reason := reason or no_engine()):
            item.add_marker(pytest.mark.skip(reason=reason))


def no_engine() -> str | None:
    """Why containers cannot be started here, None where they can."""
    if shutil.which("docker") is None:
        return "no docker on the PATH"
    for command in (["docker", "info", "--format", "{{.ServerVersion}}"], ["docker", "compose", "version"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            return f"{' '.join(command[:2])}: {done.stderr.strip()[:200] or 'failed'}"
    return None


def has_image(service: str) -> bool:
    """Whether the image of docker-compose.yml is here, or comes from where images come from."""
    pinned = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][service]["image"]
    image = pinned.partition(":-")[2].removesuffix("}")
    for command in (["docker", "image", "inspect", image], ["docker", "pull", "--quiet", image]):
        if subprocess.run(command, capture_output=True, timeout=300, check=False).returncode == 0:
            return True
    return False


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything up and healthy; taken away with its volumes at the end."""
    stack = Stack(tmp_path_factory.mktemp("operator"), grafana=has_image("grafana"))
    try:
        stack.make("up")
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="package")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A secured installation, up and healthy by the two commands; one for all files of tests."""
    stack = Stack(tmp_path_factory.mktemp("operator"), grafana=False, secured=True)
    try:
        stack.make("secure")
        stack.run("docker", "compose", *UP, timeout=900)
        yield stack
    finally:
        stack.compose("--profile", "*", "down", "--volumes", "--rmi", "local", "--timeout", "5")
