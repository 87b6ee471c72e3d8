"""Finds learnable outcomes of a loop by their number and by their time, without reading the whole log again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime

from everloop_training.adapters.learnable_rows import LearnableRows


class RowSearch:
    """Searches the rows of a loop before the offset `stop`. Raises as `LearnableRows` does."""

    def __init__(self, rows: LearnableRows) -> None:
        self._rows = rows

    async def count(self, loop: str, stop: int) -> tuple[int, int]:
        """The number of rows, and the offset of the last, -1 where there is none."""
        checkpoint = (await self._rows.checkpoints(loop)).before(stop)
        total, last = (checkpoint.rows, checkpoint.last) if checkpoint else (0, -1)
        async for piece in self._rows.read(loop, stop, stop):
            total, last = total + len(piece.rows), piece.rows[-1].offset if piece.rows else last
        return total, last

    async def offset_of(self, loop: str, number: int, stop: int) -> int | None:
        """The offset of the row with this number, from 0; None where there is none."""
        checkpoints = (await self._rows.checkpoints(loop)).all
        at = bisect_right(checkpoints, number, key=lambda c: c.rows)
        async with aclosing(self._rows.read(loop, checkpoints[at - 1].next_offset if at else 0, stop)) as pieces:
            async for piece in pieces:
                if number < piece.rows_before + len(piece.rows):
                    return piece.rows[number - piece.rows_before].offset
        return None

    async def first_since(self, loop: str, since: datetime, stop: int) -> int | None:
        """The offset of the first row whose time is `since` or later."""
        start = 0
        for checkpoint in (await self._rows.checkpoints(loop)).all:
            if checkpoint.latest >= since.timestamp():
                break
            start = checkpoint.next_offset
        async with aclosing(self._rows.read(loop, start, stop)) as pieces:
            async for piece in pieces:
                for row in piece.rows:
                    if row.time >= since:
                        return row.offset
        return None

    async def last_until(self, loop: str, until: datetime, stop: int) -> int | None:
        """The offset of the last row whose time is before `until`."""
        await self.count(loop, stop)  # makes the checkpoints up to there
        checkpoints = [c for c in (await self._rows.checkpoints(loop)).all if c.next_offset <= stop]
        ends = [*[(c.next_offset, c.earliest) for c in checkpoints], (stop, float("-inf"))]
        for number, (end, earliest) in reversed([*enumerate(ends)]):
            start = ends[number - 1][0] if number else 0
            if earliest < until.timestamp():
                found = await self._last_where(loop, start, end, lambda time: time < until)
                if found is not None:
                    return found
        return None

    async def _last_where(self, loop: str, start: int, stop: int, fits: Callable[[datetime], bool]) -> int | None:
        found = None
        async for piece in self._rows.read(loop, start, stop):
            found = next((row.offset for row in reversed(piece.rows) if fits(row.time)), found)
        return found
