"""What the supervisor keeps running: a folder, a broker, and a command and a port per service."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from everloop.local.keys import KEYS, MONITORING_TOKEN, SERVING_TOKEN, TOKEN
from everloop.local.ports import GRPC, HOST, free_port
from everloop.local.secured_kafka import client_file
from everloop_schemas import topology

MARK = "EVERLOOP_INSTALLATION"
"""Set to the data folder, and only in processes of the installation: a user's own shell may set EVERLOOP_DATA too."""


class Bus(StrEnum):
    """What carries the events."""

    KAFKA = "kafka"
    MEMORY = "memory"


@dataclass(frozen=True)
class InstallationPlan:
    """One local installation; `kafka` is the user's own cluster, None for Kafka at hand.

    `grpc_port` is that of serving for gRPC, 0 for none. `certificates` is the folder of `everloop certs`: with one,
    HTTP and gRPC have TLS, and Kafka at hand too, where each service is a user of its own by its certificate.
    `access` is the folder of keys: with one, every request needs a token.

    On the memory bus one process runs all six services and the supervisor, and has one more endpoint, `topics`.
    """

    folder: str
    ports: Mapping[str, int]
    commands: Mapping[str, tuple[str, ...]]
    kafka: str | None = None
    bus: Bus = Bus.KAFKA
    grpc_port: int = 0
    certificates: str | None = None
    access: str | None = None

    @classmethod
    def of(cls, folder: Path, ports: Mapping[str, int], kafka: str | None = None) -> InstallationPlan:
        """Return the plan of six processes."""
        services = [service for name, service in topology.SERVICES.items() if name in ports]
        commands = {service.name: (sys.executable, "-m", service.package) for service in services}
        return cls(str(folder), dict(ports), commands, kafka)

    @classmethod
    def in_memory(cls, folder: Path, ports: Mapping[str, int]) -> InstallationPlan:
        """Return the plan of an installation on the memory bus."""
        topics = {"topics": free_port(set(ports.values()))}
        return cls(str(folder), {**ports, **topics}, {}, bus=Bus.MEMORY)

    @classmethod
    def from_json(cls, text: str) -> InstallationPlan:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        values["bus"] = Bus(values["bus"])
        values["commands"] = {service: tuple(command) for service, command in values["commands"].items()}
        return cls(**values)

    def to_json(self) -> str:
        """Write the plan as one line."""
        return json.dumps(asdict(self))

    @property
    def home(self) -> Path:
        return Path(self.folder)

    @property
    def supervisor_module(self) -> str:
        """The module that runs the plan; its arguments are the plan and the descriptor of the folder lock."""
        return "everloop.memory_bus" if self.bus is Bus.MEMORY else "everloop.local.supervisor"

    def url(self, service: str) -> str:
        """Return the URL of this service."""
        return f"{self._scheme}://{HOST}:{self.ports[service]}"

    @property
    def tls(self) -> dict[str, dict[str, str]]:
        """Whom clients trust, as services.json has it."""
        return {"tls": {"ca": str(Path(self.certificates) / "ca.pem")}} if self.certificates else {}

    @property
    def listed(self) -> dict[str, Any]:
        """What services.json says beside addresses: whom clients trust, and which token is theirs."""
        return {**self.tls, **({"token": str(self.home / TOKEN)} if self.access else {})}

    @property
    def _scheme(self) -> str:
        return "https" if self.certificates else "http"

    def entry(self, service: str) -> dict[str, Any]:
        """Return the addresses of this service, as services.json has them."""
        grpc = {"grpc": f"{HOST}:{self.grpc_port}"} if self.grpc_port and service == GRPC.name else {}
        return {"url": self.url(service), **grpc}

    def log(self, name: str) -> Path:
        """Return the log of a service, of `kafka` or of `supervisor`."""
        return self.home / "logs" / f"{name}.log"

    def environment(self) -> dict[str, str]:
        """Return the environment of the supervisor and of every process that it starts."""
        return {**os.environ, "EVERLOOP_DATA": self.folder, MARK: self.folder, "PYTHONUNBUFFERED": "1"}

    def service_environment(self, service: str, bootstrap: str) -> dict[str, str]:
        """Return the environment of a service: its folder, its broker, its address."""
        own = {service: self.ports[service]}
        return (
            self.environment()
            | topology.environment(
                own,
                data=self.folder,
                host=HOST,
                kafka_bootstrap=bootstrap,
                feature_port=self.ports.get("feature"),
                ingest_port=self.ports.get("ingest"),
                registry_port=self.ports.get("registry"),
                grpc_port=self.grpc_port,
                scheme=self._scheme,
            )
            | self._tls_environment(service)
            | self.access_environment()
        )

    def access_environment(self) -> dict[str, str]:
        """What services need to ask for tokens, and to ask each other."""
        if not self.access:
            return {}
        folder = Path(self.access)
        own = {"EVERLOOP_AUTH": "on", "EVERLOOP_AUTH_KEYS": str(folder / KEYS)}
        files = {"SERVING": SERVING_TOKEN, "MONITORING": MONITORING_TOKEN}
        return own | {f"EVERLOOP_{service}_TOKEN_FILE": str(folder / file) for service, file in files.items()}

    def _tls_environment(self, service: str) -> dict[str, str]:
        if not self.certificates:
            return {}
        folder = Path(self.certificates)
        files = {"CERT": f"{service}.pem", "KEY": f"{service}.key", "CA": "ca.pem"}
        kafka = {} if self.kafka else {"EVERLOOP_KAFKA_CONFIG": str(client_file(folder, service))}
        return {f"EVERLOOP_TLS_{name}": str(folder / file) for name, file in files.items()} | kafka
