"""Files that are replaced in one step, and looked at again when they have changed."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

PRIVATE = 0o600
"""The mode of a file that its owner alone reads."""
Stamp = tuple[int, int, int]


def replace_file(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Write a file in one step: a reader sees the old content or the new, never half, and never with another mode."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600 from the first byte on
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def stamp_of(path: Path) -> Stamp | None:
    """Differs once a file was written or replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
