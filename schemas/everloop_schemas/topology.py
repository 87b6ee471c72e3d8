"""The six services: their names, ports, dependencies and environment, in one table.

The local installation and the Helm chart are built from it; docker-compose.yml, the Dockerfile, prometheus.yml and the
service cards are checked against it. It holds nothing but data, so that the client can read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

CONTAINER_PORT = 8000
"""The port on which every service listens in its container."""
KAFKA_PORT = 9092
"""Kafka's port, on this machine and in its container."""


@dataclass(frozen=True)
class ServiceTopology:
    """One service. `port` is its default port, `grpc_port` that of gRPC; `artifacts` says how it uses the store."""

    name: str
    port: int
    grpc_port: int | None = None
    database: bool = False
    artifacts: Literal["none", "read", "write"] = "none"

    @property
    def package(self) -> str:
        """The package that `python -m` runs."""
        return f"everloop_{self.name}"

    @property
    def depends_on(self) -> frozenset[str]:
        """The containers that must be healthy before its own starts."""
        return frozenset({"kafka", "postgres"} if self.database else {"kafka"})

    def variable(self, name: str) -> str:
        """The environment variable of one of its settings, such as EVERLOOP_INGEST_PORT."""
        return f"EVERLOOP_{self.name}_{name}".upper()


SERVICES: dict[str, ServiceTopology] = {
    service.name: service
    for service in (
        ServiceTopology("ingest", 8001),
        ServiceTopology("feature", 8002),
        ServiceTopology("training", 8003, artifacts="write"),
        ServiceTopology("registry", 8004, database=True, artifacts="read"),
        ServiceTopology("serving", 8005, grpc_port=8015, artifacts="read"),
        ServiceTopology("monitoring", 8006, database=True),
    )
}
"""By name, in the order of their ports."""


def ports_from(base: int) -> dict[str, int]:
    """A port per service: `base` for ingest, and the others at the same distances as by default."""
    first = min(service.port for service in SERVICES.values())
    return {name: base + service.port - first for name, service in SERVICES.items()}


def environment(
    ports: Mapping[str, int],
    *,
    data: str,
    host: str,
    kafka_bootstrap: str | None = None,
    feature_port: int | None = None,
    ingest_port: int | None = None,
    registry_port: int | None = None,
    grpc_port: int | None = None,
    scheme: str = "http",
) -> dict[str, str]:
    """The environment of services on one machine: the data folder, the broker, and the address of each service.

    `feature_port` is where serving finds feature, `ingest_port` and `registry_port` where monitoring finds these two,
    and `grpc_port` where serving listens for gRPC; 0 switches that off.
    """
    feature = {} if feature_port is None else {"EVERLOOP_SERVING_FEATURE_URL": f"{scheme}://{host}:{feature_port}"}
    asked = {"ingest": ingest_port, "registry": registry_port}
    monitoring = {
        SERVICES["monitoring"].variable(f"{name}_url"): f"{scheme}://{host}:{port}"
        for name, port in asked.items()
        if port is not None
    }
    bootstrap = {} if kafka_bootstrap is None else {"EVERLOOP_KAFKA_BOOTSTRAP": kafka_bootstrap}
    own = {f"EVERLOOP_{name.upper()}_PORT": str(port) for name, port in ports.items()}
    grpc = {} if grpc_port is None else {SERVICES["serving"].variable("grpc_port"): str(grpc_port)}
    return {"EVERLOOP_DATA": data, "EVERLOOP_HOST": host, **bootstrap, **feature, **monitoring, **grpc, **own}
