"""The containers of docker-compose.yml under a project of their own, driven as an operator does."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from everloop.local.ports import free_port
from everloop_schemas.topology import SERVICES

ROOT = Path(__file__).parents[2]
NAMES = (*SERVICES, "serving_grpc", "kafka", "prometheus", "alertmanager", "grafana")
IMAGES = ("kafka", "postgres", "prometheus", "alertmanager")
PROFILE = "grafana"
KILL = "import os, sys; os.kill(int(sys.argv[1]), 9)"


class Stack:
    """Own project, own ports, own password: an installation that runs on this machine is not touched."""

    def __init__(self, folder: Path, *, grafana: bool) -> None:
        taken: set[int] = set()
        for _ in NAMES:
            taken.add(free_port(taken))
        self.ports = dict(zip(NAMES, taken, strict=True))
        self.project = f"everloop-test-{os.getpid()}"
        self.images = (*IMAGES, "grafana") if grafana else IMAGES
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("EVERLOOP_", "COMPOSE_"))},
            **{f"EVERLOOP_{name.upper()}_PORT": str(port) for name, port in self.ports.items()},
            **{f"EVERLOOP_{name.upper()}_URL": self.url(name) for name in SERVICES},
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_PROFILES": PROFILE if grafana else "",
            "EVERLOOP_POSTGRES_PASSWORD": f"it's {secrets.token_hex(8)}/:@%#",
            "NO_COLOR": "1",
        }

    def url(self, name: str) -> str:
        """The URL of a service, or of a container beside them."""
        return f"http://127.0.0.1:{self.ports[name]}"

    def make(self, target: str) -> None:
        """`make up` or `make down`; fails with the end of every unhealthy container's log."""
        try:
            self.run("make", target, timeout=900)
        except AssertionError as e:
            names = self.unhealthy()
            raise AssertionError(f"{e}\n{self.compose('logs', '--tail', '40', *names) if names else ''}") from None

    def compose(self, *args: str) -> str:
        """What `docker compose ARGS` prints."""
        return self.run("docker", "compose", *args)

    def remove(self) -> None:
        """Take away containers, networks, volumes and the six images."""
        self.compose("down", "--volumes", "--rmi", "local", "--timeout", "5")

    def everloop(self, *args: str) -> Any:
        """What `everloop ARGS --json` answers."""
        return json.loads(self.run(sys.executable, "-m", "everloop", *args, "--json", cwd=self._folder))

    def status(self, loop: str) -> dict[str, Any]:
        """`everloop status LOOP`; empty while monitoring is away."""
        try:
            status: dict[str, Any] = self.everloop("status", loop)
        except AssertionError:
            return {}
        return status

    def run(self, *command: str, timeout: float = 240, cwd: Path = ROOT) -> str:
        """Run a command; raises AssertionError with its output when it fails."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=self._environment, cwd=cwd, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def containers(self) -> dict[str, dict[str, Any]]:
        """`docker inspect` of each service's container, whether it runs or not."""
        ids = self.compose("ps", "--all", "--quiet").split()
        found = json.loads(self.run("docker", "inspect", *ids)) if ids else []
        return {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in found}

    def unhealthy(self) -> list[str]:
        """Who is not up and healthy now."""
        found = {name: c["State"].get("Health", {}).get("Status") for name, c in self.containers().items()}
        return [name for name, status in found.items() if status != "healthy"]

    def restarts(self, name: str) -> int:
        """How often the engine has started this container again."""
        return int(self.containers()[name]["RestartCount"])

    def kill(self, name: str) -> None:
        """SIGKILL to the main process of a container by its pid on the host, as a crash would look to the engine.

        After `docker kill` the engine would not restart it. Where the container's first
        process is an init, the main process is its child.
        """
        container = self.containers()[name]
        first = str(container["State"]["Pid"])
        rows = self.run("docker", "top", container["Id"], "-eo", "pid,ppid").split()[2:]
        children = [pid for pid, parent in zip(rows[::2], rows[1::2], strict=True) if parent == first]
        main = children[0] if container["HostConfig"].get("Init") else first
        isolation = ("--pid", "host", "--network", "none", "--user", "0", "--entrypoint", "python")
        self.run("docker", "run", "--rm", *isolation, f"{self.project}-ingest", "-c", KILL, main)

    def ask(self, query: str) -> Any:
        """The answer of Prometheus' HTTP API."""
        return self.get("prometheus", f"/api/v1/{query}")["data"]

    def get(self, name: str, path: str) -> Any:
        """The JSON at a path of a container."""
        with urllib.request.urlopen(self.url(name) + path, timeout=10) as answer:
            return json.load(answer)
