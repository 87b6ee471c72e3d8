"""The bus of the demo: Kafka wherever a broker can run, the memory bus elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from everloop.local.errors import JavaNotFound, KafkaNotFetched


def why_no_kafka(fetch: Callable[[], object], check_java: Callable[[], None]) -> str | None:
    """Why no broker can run on this machine: its package or Java is missing; None where one can.

    Raises InstallationError for what the user can fix: a full disk, a cache that cannot be written.
    """
    try:
        fetch()
        check_java()
    except (KafkaNotFetched, JavaNotFound) as e:
        return e.what
    return None
