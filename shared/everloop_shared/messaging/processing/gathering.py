"""Lets batches fill while records arrive fast: a batch costs the same round trips to the broker, small or large."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

MIN_BUSY_RECORDS = 4
"""The records in a batch from which on more are expected soon, however long ago the last batch was."""


class BatchGathering:
    """Pauses between the batches of one consumer, where the last ones show that waiting makes the next one larger.

    That is where a batch had some records, where it came sooner after the one before than a pause takes, or where the
    last pause was worth it. After a batch that was half full there is no pause: the next one fills while it is handled.
    """

    def __init__(self, gather_ms: float, batch_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause_s, self._full_enough = gather_ms / 1000, max(MIN_BUSY_RECORDS, batch_size // 2)
        self._clock, self._arrived_at = clock, -1e9
        self.is_busy = False

    def record_batch(self, count: int) -> None:
        """Note how many records a batch had, when it arrives."""
        if not count:
            self.is_busy = False
            return
        now = self._clock()
        soon, self._arrived_at = now - self._arrived_at < self._pause_s, now
        several = count >= MIN_BUSY_RECORDS or (count > 1 and self.is_busy)
        self.is_busy = (several or soon) and count < self._full_enough

    async def pause(self) -> None:
        """Wait for more records, if the last batches show that they arrive fast."""
        if self.is_busy:
            await asyncio.sleep(self._pause_s)
