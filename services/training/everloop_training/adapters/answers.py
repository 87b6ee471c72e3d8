"""Questions to the worker that wait for their answer."""

from __future__ import annotations

import asyncio
from typing import Any

from everloop_training.errors import LearnersAway
from everloop_training.messages import Answer, Opened
from everloop_training.ports import Worker


class Answers:
    """Matches answers to questions, by number or partition; when the worker dies all get LearnersAway."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[type[Any], int], asyncio.Future[Any]] = {}

    async def opened(self, worker: Worker, message: Any, partition: int) -> Opened:
        """Send an Open and wait until it is done; raises LearnersAway."""
        found: Opened = await self._answer(worker, message, (Opened, partition))
        return found

    async def numbered(self, worker: Worker, message: Any, number: int) -> Answer:
        """Send a question and wait for its answer; raises LearnersAway."""
        found: Answer = await self._answer(worker, message, (Answer, number))
        return found

    def take(self, message: Opened | Answer) -> None:
        """An answer has come; one that nobody waits for any more is dropped."""
        number = message.number if isinstance(message, Answer) else message.partition
        future = self._waiting.get((type(message), number))
        if future and not future.done():
            future.set_result(message)

    def gone(self) -> None:
        """The worker will answer nothing any more."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LearnersAway("the worker has died; it is being replaced"))

    async def _answer(self, worker: Worker, message: Any, key: tuple[type[Any], int]) -> Any:
        future = self._waiting[key] = asyncio.get_running_loop().create_future()
        worker.send(message)
        try:
            return await future
        finally:
            self._waiting.pop(key, None)
