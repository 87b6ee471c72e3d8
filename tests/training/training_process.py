"""The training service as a process on real Kafka, and what it has published there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from everloop_schemas.envelope import Event
from everloop_shared.messaging.routes import Engine
from everloop_training.settings import TrainingSettings

WITHIN_S = 120.0
T = TypeVar("T")


def settings_of(kafka: Any, folder: Path) -> TrainingSettings:
    """Of an installation of its own on the session's broker."""
    prefix = f"{uuid4().hex[:8]}."
    parts = {"kafka_bootstrap": kafka.bootstrap, "topic_prefix": prefix, "partitions": 1, "instance": "t"}
    return TrainingSettings(data=folder, port=0, **parts)


@contextmanager
def service(settings: TrainingSettings) -> Iterator[subprocess.Popen[bytes]]:
    """The training service as a process, which is killed at the end."""
    names = ("data", "port", "instance", "kafka_bootstrap", "topic_prefix", "partitions")
    named = {f"EVERLOOP_{name}".upper(): str(getattr(settings, name)) for name in names}
    process = subprocess.Popen([sys.executable, "-m", "everloop_training"], env={**os.environ, **named})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Published:
    """What training has published of some kinds of events, topic by topic."""

    def __init__(self, engine: Engine, kinds: Sequence[type[Event]]) -> None:
        self._engine, self._topics = engine, [kind.topic for kind in kinds]

    async def read(self) -> list[Event]:
        """The events so far."""
        engine = self._engine
        return [e for t in self._topics for _, e in await engine.read(t, 0, 0, await engine.end_offset(t, 0))]

    async def until(self, condition: Callable[[list[Event]], T | None]) -> T:
        """The value of a condition on the events, once it is true."""
        async with asyncio.timeout(WITHIN_S):
            while not (value := condition(await self.read())):
                await asyncio.sleep(0.05)
        return value
