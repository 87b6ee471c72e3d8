"""Allows the six services what they need on the cluster, before they start: what compose runs once, as a superuser."""

from __future__ import annotations

import sys

from pydantic import Field

from everloop.acls.applying import allow_services
from everloop_shared.errors import Misconfigured
from everloop_shared.settings import Settings


class AclSettings(Settings):
    """The cluster, who may change its lists, and what ingest reads beside its own topics."""

    sources: str = Field("", description="topics of users that ingest reads, separated by commas")
    user_prefix: str = Field("", description="what stands before a service's name in its principal, such as CN=")


def main() -> None:
    """Apply the table to the cluster that the environment names."""
    settings = AclSettings.load("acls")
    if settings.kafka_config is None:
        raise Misconfigured("EVERLOOP_KAFKA_CONFIG names no client settings of who may change access control lists")
    sources = [name.strip() for name in settings.sources.split(",") if name.strip()]
    count = allow_services(settings.kafka_bootstrap, settings.kafka_config, sources, settings.user_prefix)
    sys.stdout.write(f"{count} entries were changed\n")


if __name__ == "__main__":
    main()
