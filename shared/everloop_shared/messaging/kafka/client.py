"""The connection settings of all Kafka clients: address, TLS and SASL, from settings and EVERLOOP_KAFKA_CONFIG."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any, Literal

from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from everloop_shared.errors import FieldError, Misconfigured
from everloop_shared.messaging.kafka.connection import repair
from everloop_shared.messaging.kafka.renewed_context import RenewedContext, TlsFiles
from everloop_shared.settings import Settings

VARIABLE = "EVERLOOP_KAFKA_CONFIG"
FETCH_BYTES = 1024 * 1024
"""Fetched ahead per partition; one larger record is fetched as well."""
FETCH_MAX_WAIT_MS = 500
"""How long a fetch of all partitions waits for the first record (`fetching.PatientFetcher`)."""
SESSION_TIMEOUT_MS = 10_000
HEARTBEAT_MS = 3_000
REBALANCE_TIMEOUT_MS = 60_000
MAX_POLL_INTERVAL_MS = 3_600_000
"""Handling a batch, and publishing what comes of it, may wait for others as long as it takes."""


class ClientConfig(BaseModel):
    """What the file of client settings may contain, with aiokafka's names; files are paths to PEM."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "GSSAPI", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_plain_username: str | None = None
    sasl_plain_password: str | None = None
    sasl_kerberos_service_name: str = "kafka"
    sasl_kerberos_domain_name: str | None = None
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_password: str | None = None
    ssl_check_hostname: bool = True
    request_timeout_ms: int = 10_000
    metadata_max_age_ms: int = 60_000
    connections_max_idle_ms: int = 540_000
    retry_backoff_ms: int = 100

    @model_validator(mode="after")
    def _fits(self) -> ClientConfig:
        sasl = self.security_protocol.startswith("SASL") and self.sasl_mechanism != "GSSAPI"
        if sasl and not (self.sasl_plain_username and self.sasl_plain_password):
            raise ValueError(f"{self.sasl_mechanism} needs sasl_plain_username and sasl_plain_password")
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("ssl_certfile and ssl_keyfile belong together")
        if any((self.ssl_cafile, self.ssl_certfile)) and not self.security_protocol.endswith("SSL"):
            raise ValueError("ssl_cafile and ssl_certfile need security_protocol SSL or SASL_SSL")
        return self

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context, None for protocols without it; raises Misconfigured naming the file."""
        if not self.security_protocol.endswith("SSL"):
            return None
        files = TlsFiles(self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile, self.ssl_password)
        try:
            context = RenewedContext(files)
        except (OSError, ValueError) as e:  # ssl.SSLError is an OSError
            names = [str(f) for f in files[:3] if f]
            raise Misconfigured(f"{VARIABLE}: cannot use {', '.join(names)}: {e}") from e
        context.check_hostname = self.ssl_check_hostname
        return context


def client_settings(settings: Settings, name: str) -> dict[str, Any]:
    """The keyword arguments that producers, consumers and admin clients share. Raises Misconfigured."""
    repair()
    config = read_config(settings.kafka_config)
    plain = config.model_dump(exclude={"ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password"})
    plain.pop("ssl_check_hostname")
    return {
        **plain,
        "ssl_context": config.ssl_context(),
        "bootstrap_servers": [server.strip() for server in settings.kafka_bootstrap.split(",")],
        "client_id": f"everloop-{name}-{settings.instance}",
    }


def group_settings(settings: Settings, name: str) -> dict[str, Any]:
    """The keyword arguments that the consumers of groups share: what is handled is committed by hand.

    Range assignment: topics with the same key and partition count end up in the same replica, partition by partition.
    """
    return client_settings(settings, name) | {
        "enable_auto_commit": False,
        "session_timeout_ms": SESSION_TIMEOUT_MS,
        "heartbeat_interval_ms": HEARTBEAT_MS,
        "rebalance_timeout_ms": REBALANCE_TIMEOUT_MS,
        "max_poll_interval_ms": MAX_POLL_INTERVAL_MS,
        "partition_assignment_strategy": (RangePartitionAssignor,),
        "fetch_max_wait_ms": FETCH_MAX_WAIT_MS,
        "max_partition_fetch_bytes": FETCH_BYTES,
    }


def read_config(path: Path | None) -> ClientConfig:
    """The file's settings, the defaults without one. Raises Misconfigured naming the variable and the field."""
    if path is None:
        return ClientConfig()
    try:
        return ClientConfig.model_validate(json.loads(path.read_text()))
    except OSError as e:
        raise Misconfigured(f"{VARIABLE}: cannot read {path}: {e.strerror}") from e
    except json.JSONDecodeError as e:
        raise Misconfigured(f"{VARIABLE}: {path} is not JSON: {e}") from e
    except ValidationError as e:
        problems = [FieldError(".".join(map(str, p["loc"])) or "the file", p["msg"]) for p in e.errors()]
        reasons = "; ".join(f"{p.field}: {p.error}" for p in problems)
        raise Misconfigured(f"{VARIABLE}: {path}: {reasons}", problems) from e
