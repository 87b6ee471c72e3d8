"""The installation under test: started and stopped by the command, inspected as a user can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from tests.chaos.loops import SPECS

from everloop_schemas.topology import SERVICES

WORKER, LEARNER = "worker", "learner"
CHILDREN = {LEARNER: "training", WORKER: "serving"}
"""Names of child processes, and their services."""
LEARNER_MODULE = "everloop_training.worker.main"


@dataclass
class Installation:
    """An installation in its own folder; `environment` is added to that of all its services."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """What the command finds in its environment."""
        return {**os.environ, **self.environment, "EVERLOOP_DATA": str(self.folder), "NO_COLOR": "1"}

    def everloop(self, *args: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        command = [sys.executable, "-m", "everloop", *args]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=self.env, check=False)

    def up(self) -> subprocess.CompletedProcess[str]:
        """Start it; returns when it is ready."""
        return self.everloop("up", "--ports", "auto", "--detach")

    def down(self) -> None:
        """Stop it, and whatever is left of it."""
        done = self.everloop("down")
        assert done.returncode == 0, done.stderr

    def apply(self, spec: str) -> None:
        """Apply a loop."""
        file = self.folder / "loop.yaml"
        file.write_text(spec)
        done = self.everloop("apply", "-f", str(file))
        assert done.returncode == 0, done.stdout + done.stderr

    def listed(self) -> dict[str, Any]:
        """The content of services.json; empty while there is none."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "services.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def url(self, service: str) -> str | None:
        """The URL of a service."""
        found = self.listed().get(service, {}).get("url")
        return str(found) if found else None

    @property
    def bootstrap(self) -> str:
        """The broker's address."""
        return str(self.listed()["kafka"]["bootstrap"])

    def process(self, name: str) -> psutil.Process | None:
        """The process of a service, of `kafka` or `supervisor`, or one of `CHILDREN`; None while there is none."""
        pid = self.listed().get(CHILDREN.get(name, name), {}).get("pid")
        try:
            process = psutil.Process(pid) if pid else None
            if process and name in CHILDREN:
                return _child(name, process.children())
            return process if process and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def ready(self) -> bool:
        """Whether every service answers ready."""
        return all(self.answers(service) for service in SERVICES)

    def answers(self, service: str) -> bool:
        """Whether a service answers ready now."""
        try:
            return httpx.get(f"{self.url(service)}/readyz", timeout=2, trust_env=False).status_code == 200
        except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol):
            return False

    def status(self, loop: str) -> dict[str, Any]:
        """Monitoring's status of a loop; empty while it is away."""
        try:
            url = f"{self.url('monitoring')}/v1/loops/{loop}/status"
            answer = httpx.get(url, timeout=10, trust_env=False)
        except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol):
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}


def _child(name: str, children: list[psutil.Process]) -> psutil.Process | None:
    """Of serving's workers the one that was started last; of those that learn the first, so that each has its turn."""
    if name == LEARNER:
        return next((child for child in children if LEARNER_MODULE in child.cmdline()), None)
    return children[-1] if children else None


@contextmanager
def running(folder: Path, environment: dict[str, str] | None = None) -> Iterator[Installation]:
    """An installation that runs, with the loops applied; stopped at the end, its folder stays."""
    installation = Installation(folder, environment or {})
    folder.mkdir(parents=True, exist_ok=True)
    done = installation.up()
    assert done.returncode == 0, done.stderr
    try:
        for spec in SPECS.values():
            installation.apply(spec)
        yield installation
    finally:
        installation.down()
