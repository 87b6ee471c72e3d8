"""A lock by a file. The operating system releases it when the process ends, so that no lock is left behind."""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from everloop_shared.errors import Unavailable

TIMEOUT_S = 10.0
RETRY_EVERY_S = 0.01


@asynccontextmanager
async def hold_file_lock(path: Path | None) -> AsyncIterator[None]:
    """Hold the lock, whose file is created when missing; None is no lock. Raises Unavailable after 10 s."""
    if path is None:
        yield
        return
    deadline = time.monotonic() + TIMEOUT_S
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as e:
                if time.monotonic() > deadline:
                    raise Unavailable(f"another process holds {path} for {TIMEOUT_S:.0f} s") from e
            await asyncio.sleep(RETRY_EVERY_S)
        yield
