"""Processes that tests look at from outside."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psutil


def runs(process: psutil.Process | int) -> bool:
    """Whether a process, or the one with this pid, runs: one that has ended meanwhile, or is a zombie, does not."""
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(process) if isinstance(process, int) else process
        return found.is_running() and found.status() != psutil.STATUS_ZOMBIE
    return False


def named_children(name: str, pid: int | None = None) -> list[psutil.Process]:
    """The living processes below this one, or the one with this pid, whose command line has this name."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if name in " ".join(process.cmdline()):
                found.append(process)
    return found


async def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
