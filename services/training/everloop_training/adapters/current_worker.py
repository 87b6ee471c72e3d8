"""The running worker, shared by the supervisor, which replaces it, and the parts that send to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from everloop_training.errors import WorkerUnavailable
from everloop_training.ports import Worker


class CurrentWorker:
    """The running worker, if there is one, and whether it is `ready`: it has caught up with the log.

    Only a ready worker is given new outcomes and requests. Tasks that wait are woken at every change.
    """

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.ready = self.stopping = False
        self._changed = asyncio.Condition()

    def require(self) -> Worker:
        """The worker; raises WorkerUnavailable where it is not ready or the service stops."""
        if self.stopping or not self.ready or self.worker is None:
            raise WorkerUnavailable("the worker is starting or stopping; retry")
        return self.worker

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, or the service stops."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.stopping or condition())

    async def notify(self) -> None:
        """Wake the tasks that wait."""
        async with self._changed:
            self._changed.notify_all()
