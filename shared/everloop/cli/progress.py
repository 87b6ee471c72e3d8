"""The progress of a replay: a bar on a terminal, a line every few seconds elsewhere; all of it on standard error."""

from __future__ import annotations

import time
from typing import Self

from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from everloop.cli.output import progress_bar
from everloop.errors import EverloopError
from everloop.replay.player import Played
from everloop.replay.rows import Errors

LINE_EVERY_S = 5.0
ROWS_NAMED = 20
"""The most refused rows that are named one by one."""


class ReplayProgress:
    """Shows the progress over `total` rows, names the first refused rows, and says why the replay waits."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._line_at = self._started = time.monotonic()
        self._retry_at = 0.0
        self._refused = 0
        self._bar = progress_bar(MofNCompleteColumn(), TimeRemainingColumn())
        self._task = self._bar.add_task("replay", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()
        if self._refused > ROWS_NAMED:
            self._print(f"... and {self._refused - ROWS_NAMED:,} more refused rows")

    def update(self, played: Played) -> None:
        """Show these counts."""
        self._bar.update(self._task, completed=played.sent + played.rejected)
        if self._bar.disable and time.monotonic() - self._line_at >= LINE_EVERY_S:
            self._line_at = time.monotonic()
            rate = played.sent / (self._line_at - self._started)
            self._print(f"{played.sent:,} of {self._total:,} rows, {played.labels:,} labels, {rate:,.0f} rows/s")

    def report_refused(self, number: int, errors: Errors) -> None:
        """Name a row that was refused."""
        self._refused += 1
        if self._refused <= ROWS_NAMED:
            for field, error in errors:
                self._print(f"row {number}: {field}: {error}")

    def report_retry(self, error: EverloopError) -> None:
        """Show the error after which the client retries, every few seconds at most."""
        if time.monotonic() - self._retry_at >= LINE_EVERY_S:
            self._retry_at = time.monotonic()
            self._print(f"retrying: {error}")

    def _print(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
