"""Makes the topics of all services and checks those that are there: what Kubernetes runs before the services start."""

from __future__ import annotations

import asyncio
import sys

from everloop_schemas.catalogue import TOPICS
from everloop_shared.errors import ServiceError
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.settings import Settings

WITHIN_S = 120.0
"""How long a cluster that does not answer is waited for."""


def main() -> int:
    """The exit status: 0 when all topics can be used, 1 with the reason on standard error when not."""
    try:
        asyncio.run(ensure_topics(Settings.load("topics"), TOPICS.values(), WITHIN_S))
    except ServiceError as e:
        sys.stderr.write(f"everloop: {e.detail}\n")
        return 1
    sys.stdout.write(f"{len(TOPICS)} topics can be used\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
