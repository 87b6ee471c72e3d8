"""The settings of the memory bus, from EVERLOOP_MEMORY_<NAME>, and those that it gives to the services."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from everloop.local.ports import HOST
from everloop_schemas import topology
from everloop_shared.settings import Settings

STORES = ("_DATABASE_URL", "_ARTIFACTS")
SHARED = ("DATA", "HOST", "PARTITIONS")


class MemorySettings(Settings):
    """The limits of the bus."""

    max_log_bytes: int = Field(
        500_000_000, ge=100_000, description="bytes on all topics; beyond it observations and labels are refused (507)"
    )


def environment_of(
    environ: Mapping[str, str], folder: Path, ports: Mapping[str, int], partitions: int, grpc_port: int | None = None
) -> dict[str, str]:
    """The services' environment: this folder, these ports, and no database or store that outlives the process."""
    replaced = {service.variable(name) for service in topology.SERVICES.values() for name in SHARED}
    kept = {name: value for name, value in environ.items() if name not in replaced and not name.endswith(STORES)}
    own = topology.environment(
        ports,
        data=str(folder),
        host=HOST,
        feature_port=ports.get("feature"),
        ingest_port=ports.get("ingest"),
        registry_port=ports.get("registry"),
        grpc_port=grpc_port,
    )
    return {**kept, **own, "EVERLOOP_PARTITIONS": str(partitions)}
