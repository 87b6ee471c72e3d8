"""Reads something from elsewhere for all who wait for it, and not again and again while that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class SpacedReading:
    """One reading at a time, which begins at most once in `every_s` seconds of `timer`.

    So however many strangers ask, the other side is asked seldom, and one thread at most waits for it.
    """

    def __init__(self, read: Callable[[], Awaitable[None]], every_s: float, timer: Callable[[], float]) -> None:
        """`read` raises nothing."""
        self._read, self._every_s, self._timer = read, every_s, timer
        self._tried_at: float | None = None
        self._reading: asyncio.Future[None] | None = None

    def start(self) -> asyncio.Future[None] | None:
        """The reading that is under way; None where one was tried a moment ago."""
        if self._reading is None:
            if self._tried_at is not None and self._timer() - self._tried_at < self._every_s:
                return None
            self._tried_at = self._timer()
            self._reading = asyncio.ensure_future(self._read())
            self._reading.add_done_callback(self._forget)
        return self._reading

    async def wait(self) -> None:
        """Return when the reading that is under way, or begins now, has ended; at once where none may begin."""
        if reading := self.start():
            await asyncio.shield(reading)  # one caller that goes away does not end it for the others

    def _forget(self, _: object) -> None:
        self._reading = None
