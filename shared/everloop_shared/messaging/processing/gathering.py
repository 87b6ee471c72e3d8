"""Lets batches fill while records arrive fast: a batch costs the same round trips to the broker, small or large."""

from __future__ import annotations

import asyncio

MIN_BUSY_RECORDS = 4
"""The records in a batch from which on more are expected soon; a single record never waits."""


class BatchGathering:
    """Pauses between the batches of one consumer, where the last batch shows that waiting makes the next one larger.

    After a batch that was half full there is no pause: the next one fills while it is handled.
    """

    def __init__(self, gather_ms: float, batch_size: int) -> None:
        self._pause_s, self._full_enough = gather_ms / 1000, max(MIN_BUSY_RECORDS, batch_size // 2)
        self._busy = False

    def record_batch(self, count: int) -> None:
        """Note how many records a batch had."""
        self._busy = MIN_BUSY_RECORDS <= count < self._full_enough

    async def pause(self) -> None:
        """Wait for more records, if the last batch shows that they arrive fast."""
        if self._busy:
            await asyncio.sleep(self._pause_s)
