"""Batches that wait for more once records come fast: each costs the same round trips to the broker, small or large."""

from __future__ import annotations

import asyncio

MIN_BUSY_RECORDS = 4
"""A batch of so many records says that others are on their way; a lone record waits for nothing."""


class BatchGathering:
    """Between the batches of one consumer: `taken` tells how many records a batch had, `pause` waits where it pays.

    A batch that is half full gathers by itself.
    """

    def __init__(self, gather_ms: float, batch_size: int) -> None:
        self._seconds, self._enough = gather_ms / 1000, max(MIN_BUSY_RECORDS, batch_size // 2)
        self._busy = False

    def record_batch(self, count: int) -> None:
        """A batch was taken."""
        self._busy = MIN_BUSY_RECORDS <= count < self._enough

    async def pause(self) -> None:
        """Let more come, if the last batch says so."""
        if self._busy:
            await asyncio.sleep(self._seconds)
