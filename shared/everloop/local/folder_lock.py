"""One supervisor per folder: a file lock, which the kernel drops when its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from everloop.local.errors import InstallationRunsAlready

LOCK_WAIT_S = 2.0
"""Longer than any other process holds the lock only to look at it."""


def holder(folder: Path) -> int | None:
    """Return the pid of the supervisor that runs this folder now (or of the `up` that starts it), or None."""
    with contextlib.suppress(OSError), _file(folder).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _pid(file)
    return None


@contextlib.contextmanager
def hold(folder: Path, inherited: int | None = None) -> Iterator[int]:
    """Hold the folder; yields the descriptor; a child that inherits it holds the lock too.

    Raises InstallationRunsAlready when another process holds it.
    """
    with _file(folder).open("a+") if inherited is None else os.fdopen(inherited, "a+") as file:
        if inherited is None:
            _lock(file, folder)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def _lock(file: IO[str], folder: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as e:
            if time.monotonic() > deadline:
                fix = f"Stop it first: everloop down --data {folder}"
                raise InstallationRunsAlready(f"The local installation at {folder} runs already.", fix) from e
            time.sleep(0.01)


def _pid(file: IO[str]) -> int | None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while time.monotonic() < deadline:  # it writes its pid right after it got the lock
        file.seek(0)
        with contextlib.suppress(ValueError):
            return int(file.read())
        time.sleep(0.01)
    return None


def _file(folder: Path) -> Path:
    return folder / "supervisor.lock"
