"""What each service may do on a cluster, as Kafka's bindings name it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from everloop_schemas.bus_access import Grant, all_grants


class Binding(NamedTuple):
    """One entry of the list: a principal may do this on that resource, from any host."""

    principal: str
    kind: str
    name: str
    pattern: str
    operation: str

    def __str__(self) -> str:
        what = self.name + ("*" if self.pattern == "PREFIXED" else "")
        return f"{self.principal} may {self.operation} {self.kind} {what}"


class Changes(NamedTuple):
    """What is missing on a cluster, and what there is too much of."""

    missing: list[Binding]
    unneeded: list[Binding]


def wanted_bindings(topic_prefix: str, user_prefix: str, sources: Sequence[str] = ()) -> list[Binding]:
    """All bindings of the six services; ingest may also read the topics `sources`, which are named in full."""
    found = [_binding(grant, topic_prefix, user_prefix) for grant in all_grants()]
    read = [Binding(principal("ingest", user_prefix), "TOPIC", source, "LITERAL", "READ") for source in sources]
    return [*found, *read]


def changes(wanted: Iterable[Binding], there: Iterable[Binding]) -> Changes:
    """How to get from the bindings that a cluster has of these principals to the wanted ones."""
    wished, present = set(wanted), set(there)
    return Changes(sorted(wished - present), sorted(present - wished))


def principal(service: str, user_prefix: str) -> str:
    """The principal of a service."""
    return f"User:{user_prefix}{service}"


def _binding(grant: Grant, topic_prefix: str, user_prefix: str) -> Binding:
    pattern = "PREFIXED" if grant.prefixed else "LITERAL"
    who = principal(grant.service, user_prefix)
    return Binding(who, grant.kind, topic_prefix + grant.name, pattern, grant.operation)
