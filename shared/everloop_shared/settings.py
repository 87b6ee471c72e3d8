"""Settings from the environment, with errors that name the variable and the fix."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, ValidationError, field_validator

from everloop_schemas.topology import SERVICES
from everloop_shared.access.settings import AccessSettings
from everloop_shared.errors import FieldError, Misconfigured
from everloop_shared.spans.settings import SpanSettings

PREFIX = "EVERLOOP_"
LARGEST_NUMBER, LONGEST_S = 10**15, 10**9
"""Upper limits of every count or size, and of every duration in seconds."""
PRIVATE_UMASK = 0o077
"""The umask of every process that writes below the data folder: only the owner may read its files."""
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_HOST = re.compile(r"\*|([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")

_ORIGIN = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def _hosts(value: str) -> str:
    for entry in value.split(","):
        if entry.strip() and not _HOST.fullmatch(entry.strip()):
            raise ValueError("each entry must be NAME, NAME:PORT or *, without http://")
    return value


def _origins(value: str) -> str:
    for entry in value.split(","):
        if entry.strip() and not _ORIGIN.fullmatch(entry.strip()):
            raise ValueError("each entry must be an origin such as https://shop.example:8443, without a path; not *")
    return value


def _retention(value: str) -> str:
    if value:
        from everloop_schemas.retention import parse_retention  # all event classes, which the light client does without

        parse_retention(value)
    return value


class Settings(AccessSettings, SpanSettings):
    """Settings of every service. The class of a service adds its own fields, each with a default and a description.

    The field `port` of service `ingest` is read from `EVERLOOP_INGEST_PORT`, else from `EVERLOOP_PORT`: the second
    form sets a field for all services (data, kafka_bootstrap ...). Without either a service listens on its own port.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, allow_inf_nan=False)

    data: Path = Field(Path(".everloop"), description="folder for everything that is kept on disk")
    port: int = Field(
        0,
        ge=0,
        le=65535,
        description="HTTP port; 0 takes a free one",
    )
    tls_cert: Path | None = Field(None, description="PEM file of the certificate and its chain: TLS on every port")
    tls_key: Path | None = Field(None, description="PEM file of its private key, without a password")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of the authorities of clients: who has no certificate of theirs is refused"
    )
    tls_ca: Path | None = Field(
        None, description="PEM file of the authorities that are trusted in other services; default: the system's"
    )
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="how much is logged")
    instance: str = Field(
        default_factory=socket.gethostname, pattern=r"^[!-~]{1,200}$", description="stable name of this replica"
    )
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="HOST:PORT of the Kafka brokers, separated by commas")
    kafka_config: Path | None = Field(None, description="JSON file of aiokafka client settings, for TLS and SASL")
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,100}$", description="prefix of every topic and consumer group"
    )
    partitions: int = Field(4, ge=1, le=1000, description="partitions of each topic")
    replication_factor: int = Field(1, ge=1, le=10, description="replicas of each topic")
    retention: Annotated[str, AfterValidator(_retention)] = Field(
        "", description="how long topics are kept where it is not the default: TOPIC=DURATION, separated by commas"
    )
    batch_size: int = Field(500, ge=1, le=10_000, description="records handled between two commits, at most")
    gather_ms: float = Field(5.0, ge=0, le=1_000, description="wait for a fuller batch while records arrive fast")
    delivery_timeout_s: float = Field(10.0, gt=0, description="seconds to wait for acknowledgements of the broker")
    max_unacked_events: int = Field(20_000, ge=1, description="events sent and not acknowledged yet, at most")
    max_event_bytes: int = Field(1_000_000, ge=1_000, description="largest event accepted, in bytes")
    earliest_time: AwareDatetime = Field(EARLIEST, description="events and labels with an earlier time are refused")
    max_future_s: float = Field(300.0, ge=0, le=86_400, description="seconds that the clock of a sender may be ahead")
    max_body_bytes: int = Field(8_000_000, ge=1_000, description="largest HTTP body accepted, in bytes")
    max_bytes_in_flight: int = Field(64_000_000, ge=1_000, description="bytes of all HTTP bodies in memory; more: 429")
    max_header_bytes: int = Field(65_536, ge=1_000, description="largest address and headers together, in bytes")
    body_timeout_s: float = Field(30.0, gt=0, description="seconds a body may take to arrive; longer answers 408")
    header_timeout_s: float = Field(10.0, gt=0, description="seconds a connection may be idle, or send headers")
    max_connections: int = Field(1_024, ge=1, description="open HTTP connections")
    max_connections_per_address: int = Field(256, ge=1, description="open HTTP connections of one client address")
    allowed_hosts: Annotated[str, AfterValidator(_hosts)] = Field(
        "", description="host names of the service, beside those of this machine; separate with commas, * allows any"
    )

    cors_origins: Annotated[str, AfterValidator(_origins)] = Field(
        "", description="web pages that may send requests: SCHEME://HOST[:PORT] each, separated by commas; * is refused"
    )

    signing_key: Path | None = Field(
        None, description="file of the key that signs what this service writes; see `everloop signing create`"
    )
    trusted_keys: Path | None = Field(
        None, description="file of the keys that are trusted: what must be signed and is not by one of them is refused"
    )

    personal_keys_url: str = Field(
        "", repr=False, description="database of the keys that seal personal fields: postgresql://... or sqlite:///FILE"
    )
    personal_master_key: Path | None = Field(
        None, description="file of the master key, which wraps those keys; the same for all services"
    )

    @field_validator("*")
    @classmethod
    def _check_upper_limit(cls, value: Any) -> Any:
        """A larger number is a mistake, and could overflow a clock later."""
        limit = LONGEST_S if isinstance(value, float) else LARGEST_NUMBER if isinstance(value, int) else None
        if limit is not None and value > limit:
            raise ValueError(f"must be at most {limit:,}")
        return value

    @classmethod
    def load(cls, service: str, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment; raises Misconfigured, which names each variable that is wrong."""
        env = os.environ if environ is None else environ
        found: dict[str, Any] = {}
        for name in cls.model_fields:
            for variable in (f"{PREFIX}{service}_{name}".upper(), f"{PREFIX}{name}".upper()):
                if env.get(variable, "") != "":
                    found[name] = env[variable]
                    break
        if service in SERVICES:
            found.setdefault("port", SERVICES[service].port)
            if SERVICES[service].grpc_port is not None:
                found.setdefault("grpc_port", SERVICES[service].grpc_port)
        try:
            return cls.model_validate(found)
        except ValidationError as e:
            problems = [
                FieldError(f"{PREFIX}{service}_{err['loc'][0]}".upper(), f"{err['msg']}, got {err['input']!r:.80}")
                for err in e.errors()
            ]
            raise Misconfigured("; ".join(f"{p.field}: {p.error}" for p in problems), problems) from e

    def folder(self, service: str) -> Path:
        """The service's own folder below `data`, created if it does not exist."""
        path = self.data / service
        path.mkdir(parents=True, exist_ok=True)
        return path


class StoreSettings(Settings):
    """Settings of services that write or read artifacts, which use one store (EVERLOOP_ARTIFACTS)."""

    artifacts: str = Field("", description="fsspec URL of the artifact store; default: folder artifacts in data")
    max_artifact_bytes: int = Field(200_000_000, ge=1_000, description="largest artifact that is read, in bytes")

    @property
    def artifact_url(self) -> str:
        """The URL of the artifact store."""
        return self.artifacts or (self.data.absolute() / "artifacts").as_uri()
