"""Files that are replaced in one step, and looked at again when they have changed."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from everloop_shared.errors import Misconfigured

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


def create_private_file(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read; raises FileExistsError where there is one already."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())


def read_private_file(path: Path, limit: int) -> bytes:
    """The content of a file with a secret, at most `limit` bytes.

    Raises Misconfigured, which never quotes it, also where others than the owner can read the file.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer must not be waited for
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
                raise Misconfigured(f"{path} is no key file")
            if found.st_mode & 0o077:
                raise Misconfigured(f"{path} can be read by others than its owner: chmod 600 {path}")
            return os.read(file, limit)
        finally:
            os.close(file)
    except OSError as e:
        raise Misconfigured(f"the key file {path} cannot be read: {e.strerror or e}") from e


def stamp_of(path: Path) -> Stamp | None:
    """Differs once a file was written or replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
