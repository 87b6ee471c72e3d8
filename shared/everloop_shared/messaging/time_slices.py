"""Long work on the event loop in slices, so that requests get in between."""

from __future__ import annotations

import asyncio
import time

SLICE_S = 0.003
"""Seconds of work on records between two turns of the event loop, in which everything else runs."""


class TimeSlices:
    """The slices of one piece of work; the first begins when this is made.

    A slice lasts `length_s`, or `share` of the time that everything else took before it, where that is longer: a
    service that always has requests would otherwise never get its own work done.
    """

    def __init__(self, length_s: float = SLICE_S, share: float = 0.0) -> None:
        self._length_s, self._share = length_s, share
        self._end = time.perf_counter() + length_s

    async def pause(self) -> None:
        """To be awaited after each small part of the work: gives way to others where the slice is over."""
        if (now := time.perf_counter()) > self._end:
            await asyncio.sleep(0)
            again = time.perf_counter()
            self._end = again + max(self._length_s, self._share * (again - now))
