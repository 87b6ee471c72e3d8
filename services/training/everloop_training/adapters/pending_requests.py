"""Requests to the worker that wait for their answer."""

from __future__ import annotations

import asyncio
from typing import Any

from everloop_training.errors import WorkerUnavailable
from everloop_training.ports import Worker
from everloop_training.worker.protocol.messages import (
    OpenPartition,
    PartitionOpened,
    RunEnded,
    RunReplied,
    SearchReplied,
)

Answer = PartitionOpened | RunReplied | RunEnded | SearchReplied


class PendingRequests:
    """Matches answers to requests, by number or partition; when the worker exits, all of them get WorkerUnavailable."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[type[Any], int], asyncio.Future[Any]] = {}

    async def open_partition(self, worker: Worker, message: OpenPartition) -> PartitionOpened:
        """Send an OpenPartition and wait until the partition is open; raises WorkerUnavailable."""
        opened: PartitionOpened = await self._wait(worker, message, (PartitionOpened, message.partition))
        return opened

    async def request_run(self, worker: Worker, message: Any, number: int) -> RunReplied:
        """Send a request for a run and wait for the reply under its number; raises WorkerUnavailable."""
        replied: RunReplied = await self._wait(worker, message, (RunReplied, number))
        return replied

    async def request_search(self, worker: Worker, message: Any, number: int) -> SearchReplied:
        """Send a request for a search and wait for the reply under its number; raises WorkerUnavailable."""
        replied: SearchReplied = await self._wait(worker, message, (SearchReplied, number))
        return replied

    async def end_run(self, worker: Worker, message: Any, number: int) -> RunEnded:
        """Send the end of a run and wait for the reply under its number; raises WorkerUnavailable."""
        ended: RunEnded = await self._wait(worker, message, (RunEnded, number))
        return ended

    def resolve(self, answer: Answer) -> None:
        """An answer has come; one that nobody waits for any more is dropped."""
        number = answer.partition if isinstance(answer, PartitionOpened) else answer.number
        future = self._waiting.get((type(answer), number))
        if future and not future.done():
            future.set_result(answer)

    def fail_all(self) -> None:
        """The worker has exited and will answer nothing any more."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(WorkerUnavailable("the worker has exited; another is being started"))

    async def _wait(self, worker: Worker, message: Any, key: tuple[type[Any], int]) -> Any:
        future = self._waiting[key] = asyncio.get_running_loop().create_future()
        worker.send(message)
        try:
            return await future
        finally:
            self._waiting.pop(key, None)
