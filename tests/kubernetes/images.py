"""The images of the pods, built by this machine's Docker engine as `make up` builds them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.compose.stack import built_here

from everloop_schemas.topology import SERVICES

ROOT = Path(__file__).parents[2]
REGISTRY = "ghcr.io/everloop/everloop"
PROJECT = "everloop-rig"
BACKING = ("kafka", "postgres")
BUILD_S = 1_800.0
NEEDED = {"EVERLOOP_POSTGRES_PASSWORD": "unused", "EVERLOOP_PERSONAL_KEYS_PASSWORD": "unused"}


def build_images(tag: str, source: Path = ROOT) -> list[str]:
    """The six images of a source tree under this tag; skips the test where there is no Docker engine."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=60).returncode != 0:
        pytest.skip("pods need a Docker engine that builds their images, and none answers here")
    _compose(source, "build", "--quiet", *SERVICES)
    images = _names(tag)
    for name, image in zip(SERVICES, images, strict=True):
        _run("docker", "tag", f"{PROJECT}-{name}", image)
    return images


def images_of_commit(commit: str, folder: Path) -> list[str]:
    """Those of a commit, under its name: they are built once, from what git has of it, in `folder`."""
    images = _names(commit)
    if all(map(_is_here, images)):
        return images
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=archive, check=True)
    return build_images(commit, folder)


def backing_images() -> list[str]:
    """Kafka and PostgreSQL of docker-compose.yml, under the names of backing.yaml."""
    services = json.loads(_compose(ROOT, "config", "--format", "json"))["services"]
    images = []
    for name in BACKING:
        image = services[name]["image"]
        if not _is_here(image):
            _run("docker", "pull", "--quiet", image)
        images.append(f"{PROJECT}/{name}:test")
        _run("docker", "tag", image, images[-1])
    return images


def _names(tag: str) -> list[str]:
    return [f"{REGISTRY}/{name}:{tag}" for name in SERVICES]


def _is_here(image: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def _compose(source: Path, *args: str) -> str:
    return _run("docker", "compose", "--project-name", PROJECT, *args, cwd=source)


def _run(*command: str, cwd: Path = ROOT) -> str:
    environment = {**os.environ, **NEEDED, **built_here(), "COMPOSE_FILE": "docker-compose.yml"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=BUILD_S, env=environment, cwd=cwd, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-3000:]}"
    return done.stdout
