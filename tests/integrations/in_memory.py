"""An installation in one process, without Kafka, for tests of programs that know it by HTTP alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.journeys.installation import Installation


@contextmanager
def in_memory(folder: Path) -> Iterator[Installation]:
    """It runs until the block ends."""
    installation = Installation(folder)
    done = installation.everloop("up", "--ports", "auto", "--detach", "--bus", "memory")
    assert done.returncode == 0, done.stderr
    try:
        yield installation
    finally:
        installation.down()
