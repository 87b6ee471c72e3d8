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
IMAGES = ("kafka", "postgres", "keys", "prometheus", "alertmanager")
ONCE = {"masterkey"}
"""Who ends once its work is done."""
DATABASES = ("POSTGRES", "PERSONAL_KEYS")
PROFILE = "grafana"
SECURED_FILES = "docker-compose.yml:deploy/secure/compose.yml"
KILL = "import os, sys; os.kill(int(sys.argv[1]), 9)"


def built_here() -> dict[str, str]:
    """The images that take the place of pinned ones, as `make up` has them."""
    done = subprocess.run([ROOT / "deploy/images.sh"], capture_output=True, text=True, timeout=60, check=True)
    return dict(line.split("=", 1) for line in done.stdout.split())


class Stack:
    """Own project, own ports, own password: an installation that runs on this machine is not touched."""

    def __init__(self, folder: Path, *, grafana: bool, secured: bool = False) -> None:
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
            **{f"EVERLOOP_{name}_PASSWORD": f"it's {secrets.token_hex(8)}/:@%#" for name in DATABASES},
            "NO_COLOR": "1",
            **built_here(),
        }
        if secured:
            self.project += "-secured"
            self._environment |= {
                "COMPOSE_PROJECT_NAME": self.project,
                "COMPOSE_FILE": SECURED_FILES,
                "EVERLOOP_SECURED": str(self.secured),
                "EVERLOOP_DATA": str(self.secured),
            }
            for name in SERVICES:
                del self._environment[f"EVERLOOP_{name.upper()}_URL"]  # the folder has them

    @property
    def secured(self) -> Path:
        """The folder of `everloop secure`, where the installation is a secured one."""
        return self._folder / "secured"

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

    def execute(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, however it ends."""
        inside = ["docker", "exec", self.containers()[name]["Id"], *command]
        return subprocess.run(inside, capture_output=True, text=True, check=False, timeout=60)

    def containers(self) -> dict[str, dict[str, Any]]:
        """`docker inspect` of each service's container, whether it runs or not."""
        ids = self.compose("ps", "--all", "--quiet").split()
        found = json.loads(self.run("docker", "inspect", *ids)) if ids else []
        return {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in found}

    def unhealthy(self) -> list[str]:
        """Who is not up and healthy now; who runs once has to have ended well."""
        found = {name: health(container) for name, container in self.containers().items()}
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


def health(container: dict[str, Any]) -> str:
    """What the health check says, or that the container has done what it does once."""
    state, once = container["State"], container["HostConfig"]["RestartPolicy"]["Name"] == "on-failure"
    done = once and state["Status"] == "exited" and state["ExitCode"] == 0
    return "healthy" if done else str(state.get("Health", {}).get("Status"))


def assert_locked_down(container: dict[str, Any]) -> None:
    """Not root, no capability, no new privileges, nothing to write to but volumes, and limits on all it may take."""
    host, name = container["HostConfig"], container["Name"]
    assert container["Config"]["User"].partition(":")[0] not in ("", "0", "root"), name
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False), name
    assert host["SecurityOpt"] == ["no-new-privileges:true"], name
    assert host["ReadonlyRootfs"], name
    assert min(host["Memory"], host["NanoCpus"], host["PidsLimit"]) > 0, name
