"""Lets requests in between the records of a batch: a process that consumes also answers."""

from __future__ import annotations

import asyncio
import time

SLICE_S = 0.003
"""Seconds of work on records between two turns of the event loop, in which everything else runs."""


class TimeSlices:
    """Counts the time of one of several loops that run side by side; together they keep to `SLICE_S`."""

    def __init__(self, loops: int = 1) -> None:
        self._length_s = SLICE_S / max(1, loops)
        self._end = time.perf_counter() + self._length_s

    async def pause(self) -> None:
        """To be awaited after each record: gives way to others where the slice is over."""
        if time.perf_counter() > self._end:
            await asyncio.sleep(0)
            self._end = time.perf_counter() + self._length_s
