"""Temporary folders of commands, of which nothing stays: those of commands that were killed are removed by the next."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir


def own_folder(purpose: str, within: Path | None = None) -> TemporaryDirectory[str]:
    """A folder for this process alone, to be entered; it may hold values in clear. `purpose` is a word."""
    prefix, base = f"everloop-{purpose}-", within or Path(gettempdir())
    for left in base.glob(f"{prefix}*"):
        owner = left.name.removeprefix(prefix).partition("-")[0]
        if owner.isdigit() and left.lstat().st_uid == os.getuid() and not _is_alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    return TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", dir=base)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
