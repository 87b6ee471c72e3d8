"""The progress of a backup or restore: bars on a terminal, a line every few seconds elsewhere; on standard error."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 5.0


class BackupProgress:
    """One bar per stage of the work."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bars.add_task("", total=0, visible=False)
        self._stage, self._done, self._total = "", 0, 0
        self._line_at = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def begin_stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` steps."""
        self._stage, self._done, self._total = name, 0, total
        self._task = self._bars.add_task(name, total=total)

    def advance(self, steps: int = 1) -> None:
        """Count steps that are done."""
        self._done += steps
        self._bars.update(self._task, completed=self._done)
        if self._bars.disable and time.monotonic() - self._line_at >= LINE_EVERY_S:
            self._line_at = time.monotonic()
            self.print(f"{self._stage}: {self._done:,} of {self._total:,}")

    def print(self, line: str) -> None:
        """A line beside the bars."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
