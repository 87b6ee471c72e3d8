"""A real Ray on this machine, started and ended by its own command line."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from tests.integrations.environments import Environment
from tests.processes import named_children

from everloop.local.ports import free_port

START_S = 60.0
STORE_BYTES = 200_000_000


BUSY = "ray::call"
"""The title of a worker that runs a call."""


class RayCluster:
    """A head node with `workers` CPUs. `variables` has what a driver needs to know, for `auto` too."""

    def __init__(self, environment: Environment, folder: Path, workers: int) -> None:
        self._environment, self._folder, self._workers = environment, folder, workers
        self._port, self._client_port = free_port(), free_port()
        self._temporary = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # paths of its sockets must be short
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._variables = {**environment.variables, **token, "RAY_USAGE_STATS_ENABLED": "0"}
        self._process: subprocess.Popen[bytes] | None = None
        self._ip = ""

    def start(self) -> None:
        """Start it, and wait until it takes drivers."""
        log = self._folder / "ray.log"
        command = [self._environment.python, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        options = {
            "num-cpus": self._workers,
            "port": self._port,
            "ray-client-server-port": self._client_port,
            "object-store-memory": STORE_BYTES,
            "include-dashboard": "false",
            "node-ip-address": "127.0.0.1",
            "temp-dir": self._temporary,
            "min-worker-port": 0,
            "max-worker-port": 0,
        }
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, *(f"--{name}={value}" for name, value in options.items())],
                env=self._variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while "--block" not in (said := log.read_text()):
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        found = re.search(r"Local node IP: (\S+)", said)
        self._ip = found[1] if found else "127.0.0.1"

    @property
    def address(self) -> str:
        """For EVERLOOP_TRAINING_RAY, from any machine."""
        return f"ray://{self._ip}:{self._client_port}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a driver on this machine."""
        return {**self._variables, "RAY_ADDRESS": f"{self._ip}:{self._port}"}

    def processes(self, name: str) -> list[psutil.Process]:
        """The living processes of the cluster whose command line has this name, the newest last."""
        assert self._process is not None
        return named_children(name, self._process.pid)

    def kill(self) -> None:
        """End all of it at once, as a machine ends that loses its power."""
        if self._process is None:
            return
        children = psutil.Process(self._process.pid).children(recursive=True)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for child in children:  # workers have process groups of their own
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self._process.wait(10)
        self._process = None
        shutil.rmtree(self._temporary, ignore_errors=True)


@contextmanager
def ray_cluster(environment: Environment, folder: Path, workers: int = 2) -> Iterator[RayCluster]:
    """A cluster that runs until the end of the block."""
    cluster = RayCluster(environment, folder, workers)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.kill()


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What the condition returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.05)
    return found


def until_ended(processes: Sequence[psutil.Process]) -> None:
    """Wait until none of them is there any more."""
    until(lambda: not any(process.is_running() for process in processes))
