"""Processes that archive a log of outcomes, each killed (SIGKILL) right after its n-th write.

Arguments: the number of outcomes, then FOLDER=N for each process; folders may come again. It prints which were killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.builders.running import until
from tests.training.archive_harness import archiving, days_of_outcomes
from tests.training.training_harness import state

from everloop_archive.stores import ArchiveStore
from everloop_training.adapters.archive import archiver


async def archive(folder: Path, count: int) -> None:
    """Archive all of it."""
    async with archiving(folder, state()) as running:
        await running.publish(days_of_outcomes(count))
        await until(lambda: running.archive.next_offset() >= count, 30.0)


def kill_after(writes: int) -> None:
    """Let this process end right after so many writes to the store."""
    left = writes

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def then_killed(*args: Any) -> Any:
            nonlocal left
            result, left = work(*args), left - 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return then_killed

    for name in ("create", "write", "delete"):
        setattr(ArchiveStore, name, counted(getattr(ArchiveStore, name)))


def main() -> None:
    """Run one process after the other; forked, because they need a second each to import everything."""
    archiver.IDLE_S = 0.01
    killed = []
    for argument in sys.argv[2:]:
        folder, _, writes = argument.rpartition("=")
        pid = os.fork()
        if pid == 0:
            kill_after(int(writes))
            asyncio.run(archive(Path(folder), int(sys.argv[1])))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status) or status == 0, status
        killed.append(os.WIFSIGNALED(status))
    print(*killed)  # noqa: T201


if __name__ == "__main__":
    main()
