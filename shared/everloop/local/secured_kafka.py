"""What makes Kafka at hand a secured one: TLS with certificates of clients, passwords (SCRAM), and an authorizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from everloop.local.discovery import write_json
from everloop.local.ports import HOST
from everloop_schemas.topology import SERVICES
from everloop_shared.files import replace_file

SUPER_USERS = ("kafka", "admin")
"""The broker itself, and who may change access control lists."""
SCRAM = "SCRAM-SHA-512"
KEY_STORE = "kafka.keystore.pem"
"""In the broker's folder; there while it is a secured one."""


@dataclass(frozen=True)
class KafkaSecurity:
    """The folder of `everloop certs`, whose names are the principals of mutual TLS.

    With `passwords` there is a second listener at `password_port` for users by name and password, over TLS too.
    """

    certificates: Path
    passwords: Mapping[str, str] = field(default_factory=dict)
    password_port: int = 0

    def settings(self, home: Path, broker: int, controller: int) -> str:
        """The broker's settings that replace those of a plain one. Writes its key store to `home`."""
        store = home / KEY_STORE
        key, certificate = [(self.certificates / f"kafka.{kind}").read_bytes() for kind in ("key", "pem")]
        replace_file(store, key + certificate)
        listeners = [f"BROKER://{HOST}:{broker}", *self._password_listener]
        super_users = ";".join(f"User:{name}" for name in SUPER_USERS)
        return "\n".join(
            (
                f"listeners={','.join(listeners)},CONTROLLER://{HOST}:{controller}",
                f"advertised.listeners={','.join(listeners)}",
                "listener.security.protocol.map=BROKER:SSL,PASSWORDS:SASL_SSL,CONTROLLER:SSL",
                "ssl.keystore.type=PEM",
                f"ssl.keystore.location={store}",
                "ssl.truststore.type=PEM",
                f"ssl.truststore.location={self.certificates / 'ca.pem'}",
                "listener.name.broker.ssl.client.auth=required",
                "listener.name.controller.ssl.client.auth=required",
                "ssl.principal.mapping.rules=RULE:^CN=([a-z0-9_-]+)$/$1/",
                "ssl.enabled.protocols=TLSv1.2,TLSv1.3",
                f"sasl.enabled.mechanisms={SCRAM}",
                f"listener.name.passwords.{SCRAM.lower()}.sasl.jaas.config="
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "allow.everyone.if.no.acl.found=false",
                f"super.users={super_users}",
                "",
            )
        )

    def format_arguments(self) -> list[str]:
        """The users by password, as the storage is formatted with."""
        users = self.passwords.items()
        return [part for name, word in users for part in ("--add-scram", f"{SCRAM}=[name={name},password={word}]")]

    def write_client_files(self) -> Path:
        """Write the client settings of the services and of `admin`, whose file is returned."""
        for name in (*SERVICES, "admin"):
            paths = {"cafile": "ca.pem", "certfile": f"{name}.pem", "keyfile": f"{name}.key"}
            files = {f"ssl_{setting}": str(self.certificates / file) for setting, file in paths.items()}
            write_json(client_file(self.certificates, name), {"security_protocol": "SSL", **files})
        return client_file(self.certificates, "admin")

    @property
    def _password_listener(self) -> list[str]:
        return [f"PASSWORDS://{HOST}:{self.password_port}"] if self.passwords else []


def client_file(certificates: Path, name: str) -> Path:
    """The file of client settings (EVERLOOP_KAFKA_CONFIG) of a user, by its certificate."""
    return certificates / f"{name}.kafka.json"


def security_of(folder: Path) -> KafkaSecurity | None:
    """How the broker of an installation was secured at its last start; None for a plain one."""
    return KafkaSecurity(folder / "certs") if (folder / "kafka" / KEY_STORE).exists() else None
