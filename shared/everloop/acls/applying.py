"""Opens the access control lists of the cluster that options, environment or services.json name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from everloop.acls.bindings import changes, principal, wanted_bindings
from everloop.acls.cluster import AccessLists
from everloop.local.discovery import find_installation
from everloop.local.errors import InstallationError
from everloop_schemas.topology import SERVICES
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.kafka.client import read_config
from everloop_shared.settings import Settings


def open_lists(data: str | None, kafka: str | None, config: Path | None) -> AccessLists:
    """The lists of the cluster. Raises InstallationError for settings that cannot be used."""
    try:
        given = config or Settings.load("acls").kafka_config
        if kafka is None:
            installation = find_installation(data)
            kafka, given = installation.kafka(), given or installation.kafka_config
        return AccessLists(kafka, read_config(given))
    except Misconfigured as e:
        raise InstallationError(e.detail, "Name a file of client settings: --config FILE.") from e


def allow_services(bootstrap: str, config: Path, sources: Sequence[str] = (), user_prefix: str = "") -> int:
    """Allow the six services what they need, and nothing more; the number of changes. Raises ClusterRefused."""
    lists, topic_prefix = AccessLists(bootstrap, read_config(config)), Settings.load("acls").topic_prefix
    found = changes(
        wanted_bindings(topic_prefix, user_prefix, sources),
        lists.of(principal(service, user_prefix) for service in SERVICES),
    )
    lists.create(found.missing)
    lists.delete(found.unneeded)
    return len(found.missing) + len(found.unneeded)
