"""Reads and changes the access control lists of a cluster, by confluent-kafka."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it names them in no __all__
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from everloop.acls.bindings import Binding
from everloop.errors import EverloopError
from everloop_shared.messaging.kafka.client import ClientConfig

TIMEOUT_S = 15.0
ANY_HOST = "*"
QUIET = 2
"""Of syslog's levels: what goes wrong is raised, and need not be printed too."""


class ClusterRefused(EverloopError):
    """The cluster does not answer, or refuses what was asked."""


class AccessLists:
    """The lists of one cluster. Every method raises ClusterRefused."""

    def __init__(self, bootstrap: str, config: ClientConfig) -> None:
        self._bootstrap = bootstrap
        self._admin = AdminClient(librdkafka_settings(bootstrap, config), logger=None)

    def of(self, principals: Iterable[str]) -> list[Binding]:
        """What these principals are allowed, from any host."""
        return [binding for who in principals for binding in self._of(who)]

    def create(self, bindings: Sequence[Binding]) -> None:
        """Allow all of it. Idempotent."""
        if bindings:
            self._wait(self._admin.create_acls([_acl(b) for b in bindings], request_timeout=TIMEOUT_S).values())

    def delete(self, bindings: Sequence[Binding]) -> None:
        """Allow none of it any more."""
        if bindings:
            self._wait(self._admin.delete_acls([_filter(b) for b in bindings], request_timeout=TIMEOUT_S).values())

    def _of(self, who: str) -> list[Binding]:
        anything: Any = None
        everything = AclBindingFilter(
            ResourceType.ANY,
            anything,
            ResourcePatternType.ANY,
            who,
            anything,
            AclOperation.ANY,
            AclPermissionType.ALLOW,
        )
        [found] = self._wait([self._admin.describe_acls(everything, request_timeout=TIMEOUT_S)])
        return [_read(acl) for acl in found if acl.host == ANY_HOST]

    def _wait(self, futures: Iterable[Future[Any]]) -> list[Any]:
        try:
            return [future.result(TIMEOUT_S + 5) for future in futures]
        except (KafkaException, TimeoutError) as e:
            reason = e.args[0].str() if isinstance(e, KafkaException) and e.args else "no answer in time"
            raise ClusterRefused(f"Kafka at {self._bootstrap}: {reason}") from e


def librdkafka_settings(bootstrap: str, config: ClientConfig) -> dict[str, Any]:
    """The client settings by librdkafka's names."""
    named = {
        "bootstrap.servers": bootstrap,
        "log_level": QUIET,
        "security.protocol": config.security_protocol,
        "ssl.ca.location": config.ssl_cafile,
        "ssl.certificate.location": config.ssl_certfile,
        "ssl.key.location": config.ssl_keyfile,
        "ssl.key.password": config.ssl_password,
        "ssl.endpoint.identification.algorithm": None if config.ssl_check_hostname else "none",
    }
    if config.security_protocol.startswith("SASL"):
        named |= {
            "sasl.mechanism": config.sasl_mechanism,
            "sasl.username": config.sasl_plain_username,
            "sasl.password": config.sasl_plain_password,
        }
    return {name: str(value) for name, value in named.items() if value is not None}


def _acl(binding: Binding) -> AclBinding:
    return AclBinding(*_parts(binding))


def _filter(binding: Binding) -> AclBindingFilter:
    return AclBindingFilter(*_parts(binding))


def _parts(binding: Binding) -> tuple[Any, ...]:
    return (
        ResourceType[binding.kind],
        binding.name,
        ResourcePatternType[binding.pattern],
        binding.principal,
        ANY_HOST,
        AclOperation[binding.operation],
        AclPermissionType.ALLOW,
    )


def _read(acl: Any) -> Binding:
    pattern = acl.resource_pattern_type.name
    return Binding(acl.principal, acl.restype.name, acl.name, pattern, acl.operation.name)
