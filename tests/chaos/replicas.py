"""Second replicas beside the installation's own services: they share partitions, which move when one dies or stops."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

import psutil
from tests.chaos.installation import Installation

from everloop.local import processes
from everloop.local.ports import HOST, free_port
from everloop_schemas.topology import SERVICES

REPLICATED = tuple(service.name for service in SERVICES.values() if not service.database)
"""Services with a database have one process here: SQLite files are not shared."""
SUFFIX = "-2"


@dataclass
class Replicas:
    """One more process of each of `REPLICATED`, with a name and a folder of its own; the artifacts are shared."""

    installation: Installation
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    starts: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the replicas, as targets of faults."""
        return tuple(service + SUFFIX for service in REPLICATED)

    def start_missing(self) -> None:
        """Start the replicas that do not run, as an orchestrator would."""
        for name in self.names:
            if name not in self.running or self.running[name].poll() is not None:
                self.running[name] = self._start(name.removesuffix(SUFFIX), name)
                self.starts += 1

    def process(self, name: str) -> psutil.Process | None:
        """Its process; None while there is none."""
        running = self.running.get(name)
        return psutil.Process(running.pid) if running and running.poll() is None else None

    def end(self) -> None:
        """End all of them."""
        for running in self.running.values():
            processes.kill_group(running.pid)
            running.wait()

    def _start(self, service: str, name: str) -> subprocess.Popen[bytes]:
        folder = self.installation.folder / "replicas" / name
        env = {
            **self.installation.env,
            "EVERLOOP_DATA": str(folder),
            "EVERLOOP_INSTANCE": name,
            "EVERLOOP_HOST": HOST,
            "EVERLOOP_KAFKA_BOOTSTRAP": self.installation.bootstrap,
            "EVERLOOP_ARTIFACTS": f"file://{self.installation.folder}/artifacts",
            f"EVERLOOP_{service.upper()}_PORT": str(free_port()),
            "EVERLOOP_SERVING_GRPC_PORT": "0",
        }
        command = (sys.executable, "-m", f"everloop_{service}")
        return processes.spawn(command, self.installation.folder / "logs" / f"{name}.log", env)
