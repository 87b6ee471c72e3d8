"""Which bus the demo runs on: Kafka wherever a broker can be had, the memory bus only where none can."""

from __future__ import annotations

from collections.abc import Callable

from everloop.local.errors import JavaNotFound, KafkaNotFetched


def why_no_kafka(fetch: Callable[[], object], check_java: Callable[[], None]) -> str | None:
    """Why no broker can be had on this machine: no package of it, or no Java; None where one can.

    What a person can mend (a full disk, a cache that cannot be written) is raised, as InstallationError with the fix.
    """
    try:
        fetch()
        check_java()
    except (KafkaNotFetched, JavaNotFound) as e:
        return e.what
    return None
