"""Keeps a replay from running far ahead of its loop: it waits while many of its rows have no prediction yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

from everloop.errors import EverloopError

MAX_AHEAD = 5_000
"""The most rows without a prediction. Labels that come long before their predictions are kept in limited numbers."""
POLL_EVERY_S = 0.5
PATIENCE_S = 10.0
"""A loop that makes no prediction for so long is not waited for: it may have refused the rows as dead letters."""

Status = Callable[[], Awaitable[dict[str, Any]]]


class LoopPace:
    """Compares the counts of a loop's status with the rows sent. While the status is unknown, nothing waits.

    Observations that never get a prediction stay in the difference of the two counts: the smallest difference so far is
    taken for them.
    """

    def __init__(self, status: Status, max_ahead: int = MAX_AHEAD, patience_s: float = PATIENCE_S) -> None:
        self._status, self._max_ahead, self._patience_s = status, max_ahead, patience_s
        self._sent = 0
        self._sent_before_poll = 0
        self._never_predicted: int | None = None
        self._unpredicted: int | None = None
        self._predictions = -1
        self._moved_at = 0.0
        self._polled = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def wait(self, sent: int) -> None:
        """Return once at most `max_ahead` of the `sent` rows have no prediction, or the loop makes none any more."""
        self._sent = sent
        async with self._polled:
            await self._polled.wait_for(self._may_go_on)

    def _may_go_on(self) -> bool:
        if self._unpredicted is None:
            return True
        ahead = self._unpredicted + self._sent - self._sent_before_poll
        return ahead <= self._max_ahead or _now() - self._moved_at > self._patience_s

    async def _follow(self) -> None:
        while True:
            sent = self._sent
            try:
                self._add(await self._status(), sent)
            except EverloopError:
                self._unpredicted = None
            async with self._polled:
                self._polled.notify_all()
            await asyncio.sleep(POLL_EVERY_S)

    def _add(self, status: dict[str, Any], sent: int) -> None:
        events, predictions = status.get("events", 0), status.get("predictions", 0)
        difference = events - predictions
        self._never_predicted = difference if self._never_predicted is None else min(difference, self._never_predicted)
        self._unpredicted, self._sent_before_poll = difference - self._never_predicted, sent
        if predictions > self._predictions:
            self._predictions, self._moved_at = predictions, _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
