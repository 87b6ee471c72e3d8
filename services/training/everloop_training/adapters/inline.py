"""A worker without a process: the same desk in the service itself, for tests and tiny loops."""

from __future__ import annotations

import asyncio
import os
import pickle
from typing import Any, Self

from everloop_training.settings import TrainingSettings


class InlineWorker:
    """Works off what is sent when it is asked to receive, one message at a time."""

    def __init__(self, settings: TrainingSettings) -> None:
        from everloop_training.desk import desk_of  # river takes seconds to import: only where it is used

        self._desk = desk_of(settings)
        self._messages: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._answers: list[Any] = []

    @classmethod
    async def start(cls, settings: TrainingSettings) -> Self:
        """Make one."""
        return cls(settings)

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    def send(self, message: Any) -> None:
        """Send a message; it is pickled as on a pipe, so that nothing is shared."""
        self._messages.put_nowait(pickle.dumps(message))

    async def drained(self) -> None:
        """Let others have their turn."""
        await asyncio.sleep(0)

    async def receive(self) -> Any:
        """The next answer, None once it has ended."""
        while not self._answers:
            body = await self._messages.get()
            if body is None:
                return None
            self._answers = [pickle.loads(pickle.dumps(a)) for a in self._desk.handle(pickle.loads(body))]
        return self._answers.pop(0)

    async def end(self) -> None:
        """Stop; also what a kill looks like from outside."""
        self._messages.put_nowait(None)
