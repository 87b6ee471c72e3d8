"""Builds a Faust app from our settings: names, time-outs, credentials."""

from __future__ import annotations

from typing import Any

import faust
from pydantic import Field

from everloop_shared.messaging.faust.recovery import repair
from everloop_shared.messaging.kafka.client import ClientConfig, read_config
from everloop_shared.settings import Settings


class FaustSettings(Settings):
    """The settings of a service whose keyed state is on Faust."""

    commit_interval_s: float = Field(0.5, gt=0, le=60, description="seconds between two commits of offsets")
    session_timeout_s: float = Field(
        10.0, ge=6, le=300, description="seconds until a silent replica loses its partitions"
    )
    sweep_interval_s: float = Field(1.0, gt=0, le=60, description="seconds between two searches for expired entries")


def credentials(config: ClientConfig) -> Any:
    """The TLS and SASL settings as Faust takes them; None for a cluster without."""
    context = config.ssl_context()
    if config.security_protocol == "SSL":
        return faust.SSLCredentials(context=context)
    if config.security_protocol == "PLAINTEXT":
        return None
    if config.sasl_mechanism == "GSSAPI":
        return faust.GSSAPICredentials(
            kerberos_service_name=config.sasl_kerberos_service_name,
            kerberos_domain_name=config.sasl_kerberos_domain_name,
            mechanism=config.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SASLCredentials(
        username=config.sasl_plain_username,
        password=config.sasl_plain_password,
        mechanism=config.sasl_mechanism,
        ssl_context=context,
    )


def new_app(service: str, settings: FaustSettings) -> faust.App:
    """An app that is not started, with settings under which no record is lost (decision 0010)."""
    repair()
    name = f"{settings.topic_prefix}{service}"
    return faust.App(
        name,
        broker=[f"kafka://{address.strip()}" for address in settings.kafka_bootstrap.split(",")],
        broker_credentials=credentials(read_config(settings.kafka_config)),
        datadir=str(settings.folder(service) / "faust"),
        autodiscover=False,
        origin="everloop_shared",
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        topic_partitions=settings.partitions,
        table_standby_replicas=0,
        stream_wait_empty=False,
        stream_buffer_maxsize=4 * settings.batch_size,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{name}-{settings.instance}",
        broker_commit_interval=settings.commit_interval_s,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        broker_request_timeout=2 * settings.session_timeout_s,
        producer_acks=-1,
        producer_request_timeout=settings.delivery_timeout_s,
        producer_max_request_size=settings.max_event_bytes + 100_000,
    )
