"""A Kubernetes of deploy/kubernetes/rig, driven by the programs that operators use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integrations.environments import Environment

ROOT = Path(__file__).parents[2]
RIG = ROOT / "deploy/kubernetes/rig"
STEP_S = 0.3


@dataclass(frozen=True)
class Cluster:
    """A running one: `kubeconfig` of an administrator, and the folder `bin` with kubectl and helm."""

    kubeconfig: Path
    bin: Path

    def kubectl(self, *args: str, given: str | None = None) -> str:
        """What `kubectl ARGS` prints, with `given` as its input; raises AssertionError with what it said on failure."""
        return self._run("kubectl", *args, given=given)

    def helm(self, *args: str) -> str:
        """What `helm ARGS` prints; raises AssertionError with what it said on failure."""
        return self._run("helm", *args)

    def get(self, *args: str) -> dict[str, Any]:
        """What `kubectl get ARGS` answers as JSON."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *args, "--output", "json"))
        return found

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a program that shall use this cluster, and nothing of a person's own configuration."""
        own = {"KUBECONFIG": str(self.kubeconfig), "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}
        home = {f"HELM_{name}_HOME": str(self.kubeconfig.parent / "helm") for name in ("CACHE", "CONFIG", "DATA")}
        return {**os.environ, **own, **home}

    def _run(self, name: str, *args: str, given: str | None = None) -> str:
        command = [str(self.bin / name), *args]
        done = subprocess.run(
            command, input=given, env=self.environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, f"{name} {' '.join(args)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


def rig(*args: str) -> str:
    """What `deploy/kubernetes/rig ARGS` prints; raises AssertionError with its reason on failure."""
    command = [sys.executable, str(RIG), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@contextmanager
def started_cluster(made: Environment, folder: Path, *options: str) -> Iterator[Cluster]:
    """A rig in this folder, which it leaves empty."""
    try:
        yield Cluster(Path(rig("up", str(folder), *options)), Path(made.python).parent)
    finally:
        rig("down", str(folder))


def wait_until(holds: Callable[[], object], what: str, within_s: float = 60) -> None:
    """Return once it holds; raises AssertionError that names `what` when the time is over."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {within_s:.0f} s"
        time.sleep(STEP_S)
