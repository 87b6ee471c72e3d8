"""The clusters that sources may name: the installation's own, and those in the operator's file."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from everloop_ingest.settings import IngestSettings
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.kafka.client import read_config
from everloop_shared.settings import Settings

VARIABLE = "EVERLOOP_INGEST_CLUSTERS"


class NamedCluster(BaseModel):
    """One cluster: its address, and a file of client settings (TLS, SASL) like EVERLOOP_KAFKA_CONFIG."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap: str
    config: Path | None = None


class SourceRefused(Exception):
    """A source cannot be read before a setting or the spec is changed; the message has the fix."""


class Clusters:
    """The settings of Kafka clients by name of the cluster. Raises Misconfigured where the file is wrong."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._named = {} if settings.clusters is None else _read(settings.clusters)
        for cluster in self._named.values():
            read_config(cluster.config)  # a file that is missing or wrong fails the start, not the source

    def settings_of(self, name: str | None) -> Settings:
        """The settings for the clients of a cluster, the installation's own by default. Raises SourceRefused."""
        if name is None:
            return self._settings
        if name not in self._named:
            known = ", ".join(sorted(self._named)) or "none is named"
            raise SourceRefused(f"cluster {name!r} is not in the file of {VARIABLE} ({known})")
        cluster = self._named[name]
        return self._settings.model_copy(update={"kafka_bootstrap": cluster.bootstrap, "kafka_config": cluster.config})


def _read(path: Path) -> dict[str, NamedCluster]:
    try:
        return TypeAdapter(dict[str, NamedCluster]).validate_python(json.loads(path.read_text()))
    except OSError as e:
        raise Misconfigured(f"{VARIABLE}: cannot read {path}: {e.strerror}") from e
    except ValidationError as e:
        wrong = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors())
        raise Misconfigured(f"{VARIABLE}: {path}: {wrong}") from e
    except ValueError as e:
        raise Misconfigured(f"{VARIABLE}: {path} is not JSON: {e}") from e
