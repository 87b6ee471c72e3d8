"""How far a replay is: a bar on a terminal, a line now and then elsewhere; all of it on standard error."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from everloop.errors import EverloopError
from everloop.replay.player import Played
from everloop.replay.rows import Errors

LINE_EVERY_S = 5.0
ROWS_NAMED = 20


class Meter:
    """Shows progress over `total` rows, names the first rows that were refused, and says what is waited for."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True)
        self._total = total
        self._said_at = self._started = time.monotonic()
        self._waited_at = 0.0
        self._refused = 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal, transient=True)
        self._task = self._bar.add_task("replay", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()
        if self._refused > ROWS_NAMED:
            self._say(f"... and {self._refused - ROWS_NAMED:,} more refusals")

    def progress(self, played: Played) -> None:
        """Hear how far it is."""
        self._bar.update(self._task, completed=played.sent + played.rejected)
        if self._bar.disable and time.monotonic() - self._said_at >= LINE_EVERY_S:
            self._said_at = time.monotonic()
            rate = played.sent / (self._said_at - self._started)
            self._say(f"{played.sent:,} of {self._total:,} rows, {played.labels:,} labels, {rate:,.0f} rows/s")

    def refused(self, number: int, errors: Errors) -> None:
        """Name a row that was refused."""
        self._refused += 1
        if self._refused <= ROWS_NAMED:
            for field, error in errors:
                self._say(f"row {number}: {field}: {error}")

    def waiting(self, failure: EverloopError) -> None:
        """Say, now and then, why it does not go on."""
        if time.monotonic() - self._waited_at >= LINE_EVERY_S:
            self._waited_at = time.monotonic()
            self._say(f"trying again: {failure}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
