"""A worker without a process: the same dispatcher in the service itself, for tests and tiny loops."""

from __future__ import annotations

import asyncio
import os
import pickle
from typing import Any, Self

from everloop_training.settings import TrainingSettings
from everloop_training.worker.app import build


class InlineWorker:
    """Handles what was sent when it is asked to receive, one message at a time."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._dispatcher = build(settings)
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._answers: list[Any] = []

    @classmethod
    async def start(cls, settings: TrainingSettings) -> Self:
        """Start one."""
        return cls(settings)

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    def send(self, message: Any) -> None:
        """Send a message; it is pickled as on a pipe, so that nothing is shared."""
        self._messages.put_nowait(pickle.dumps(message))

    async def drained(self) -> None:
        """Let other tasks run."""
        await asyncio.sleep(0)

    async def receive(self) -> Any:
        """The next answer, None once it has ended."""
        while not self._answers:
            body = await self._messages.get()
            if body is None:
                return None
            self._answers = [pickle.loads(pickle.dumps(a)) for a in self._dispatcher.handle(pickle.loads(body))]
        return self._answers.pop(0)

    async def end(self) -> None:
        """Stop; for those who wait for an answer, the same as an exit of the process."""
        self._messages.put_nowait(None)
