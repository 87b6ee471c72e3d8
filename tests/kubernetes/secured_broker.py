"""A secured Kafka for KEDA, and what the Secrets of its TriggerAuthentication have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from everloop.acls.bindings import Binding
from everloop.acls.cluster import AccessLists
from everloop.certs.folder import ensure_certificates
from everloop.local.kafka import Broker, start_broker
from everloop.local.ports import free_port
from everloop.local.secured_kafka import KafkaSecurity, client_file
from everloop_feature.settings import FeatureSettings
from everloop_shared.messaging.kafka.client import read_config

PASSWORD = "not-in-clear-4711"
PARTITIONS = 3
USERS = {"password": "keda", "certificate": "client"}
"""Who KEDA is at Kafka by what it shows; `everloop certs` makes a certificate of `client`."""


@dataclass(frozen=True)
class Secured:
    """A broker with TLS, on which `keda` has a password and `client` a certificate, and neither may do anything."""

    broker: Broker
    password_port: int

    def file(self, name: str) -> Path:
        """One of its certificates or keys."""
        return self.broker.setup.folder / "certs" / name

    def settings(self, data: Path) -> FeatureSettings:
        """Those of its administrator."""
        config = client_file(self.broker.setup.folder / "certs", "admin")
        return settings_on(self.broker.bootstrap, data, kafka_config=config)

    def allow(self, settings: FeatureSettings, shown: str) -> None:
        """Let KEDA see the topics of the test, and the group of feature."""
        prefix, who = settings.topic_prefix, f"User:{USERS[shown]}"
        lists = AccessLists(self.broker.bootstrap, read_config(settings.kafka_config))
        group = Binding(who, "GROUP", f"{prefix}feature", "LITERAL", "DESCRIBE")
        lists.create([Binding(who, "TOPIC", prefix, "PREFIXED", "DESCRIBE"), group])

    def secrets(self, shown: str) -> tuple[list[str], list[str]]:
        """The options of `kubectl create secret` by which KEDA is refused, and those by which it is let in."""
        if shown == "password":
            name = f"--from-literal=username={USERS[shown]}"
            return [name, "--from-literal=password=wrong"], [name, f"--from-literal=password={PASSWORD}"]
        key = f"--from-file=user.key={self.file('client.key')}"
        wrong, right = (f"--from-file=user.crt={self.file(f'{name}.pem')}" for name in ("ca", "client"))
        return [key, wrong], [key, right]

    def chart_values(self, shown: str) -> list[str]:
        """How the chart is told what KEDA shows."""
        common = ["keda.tls.enabled=true", "keda.tls.caSecret.name=kafka-ca"]
        if shown == "certificate":
            return [*common, "keda.tls.userSecret.name=kafka-user"]
        sasl = ["keda.sasl.mechanism=scram_sha512", "keda.sasl.secret.name=kafka-user"]
        return [*common, *sasl, f"kafka.bootstrap=127.0.0.1:{self.password_port}"]


@contextmanager
def secured_broker(folder: Path) -> Iterator[Secured]:
    """The broker, for the block."""
    port = free_port()
    ensure_certificates(folder / "certs")
    security = KafkaSecurity(folder / "certs", {USERS["password"]: PASSWORD}, port)
    broker = asyncio.run(start_broker(folder, security=security))
    try:
        yield Secured(broker, port)
    finally:
        asyncio.run(broker.stop())


def settings_on(bootstrap: str, data: Path, **more: Any) -> FeatureSettings:
    """Settings with a prefix that no other test has."""
    own = {"topic_prefix": f"keda-{uuid4().hex[:8]}.", "partitions": PARTITIONS, "delivery_timeout_s": 60.0}
    return FeatureSettings(data=data, kafka_bootstrap=bootstrap, **own, **more)
