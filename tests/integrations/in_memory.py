"""An installation in one process, without Kafka, for tests of programs that know it by HTTP alone; and its traffic."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.journeys.installation import Installation, installed

from everloop import Everloop


def in_memory(folder: Path, *options: str) -> AbstractContextManager[Installation]:
    """It runs until the block ends, with these options of `everloop up`."""
    return installed(folder, "--bus", "memory", *options)


def send(everloop: Everloop, loop: str, start: int, rows: int) -> None:
    """Observations whose label no line between two numbers tells, and their labels."""
    chance = random.Random(start)
    drawn = [{"a": chance.uniform(-1, 1), "b": chance.uniform(-1, 1)} for _ in range(rows)]
    everloop.predict(loop, [{"id": f"r{start + n}", "data": row} for n, row in enumerate(drawn)])
    everloop.label(loop, [{"id": f"r{start + n}", "label": row["a"] * row["b"] > 0} for n, row in enumerate(drawn)])


@contextmanager
def traffic(installation: Installation, loop: str, start: int) -> Iterator[None]:
    """Rows that go on arriving until the block ends."""
    ended = threading.Event()

    def go_on() -> None:
        with Everloop(str(installation.folder)) as everloop:
            at = start
            while not ended.wait(0.2):
                send(everloop, loop, at, 20)
                at += 20

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
