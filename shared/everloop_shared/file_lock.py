"""A file that one process holds at a time; the kernel lets go of it with its holder, so none can be stale."""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from everloop_shared.errors import Unavailable

WAIT_S = 10.0
LOOK_EVERY_S = 0.01


@asynccontextmanager
async def hold_file_lock(path: Path | None) -> AsyncIterator[None]:
    """Hold the file, made when missing; None holds nothing. Raises Unavailable when another holds it for 10 s."""
    if path is None:
        yield
        return
    deadline = time.monotonic() + WAIT_S
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as e:
                if time.monotonic() > deadline:
                    raise Unavailable(f"another process holds {path} for {WAIT_S:.0f} s") from e
            await asyncio.sleep(LOOK_EVERY_S)
        yield
