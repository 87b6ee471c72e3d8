"""What tests call on Ray's workers."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path


def seen(folder: Path, name: str) -> dict[str, str | int]:
    """A file as a worker sees it; it takes a second, so that another call is given to another worker."""
    time.sleep(1)
    file = folder / name
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"sha256": digest, "inode": file.stat().st_ino, "process": os.getpid(), "folder": str(folder)}
