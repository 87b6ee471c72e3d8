"""Processes that end with their parent: each in a process group of its own, ended by pid, never by name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from everloop.local.plan import MARK
from everloop_shared.settings import PRIVATE_UMASK

ROTATE_ABOVE_BYTES = 10_000_000
POLL_EVERY_S = 0.05
# The kernel ends the process when its parent dies, even by kill -9 (Linux); `exec` keeps the pid.
DIE_WITH_PARENT = (
    "import ctypes,os,sys;"
    "ctypes.CDLL(None).prctl(1,int(sys.argv[1]));"
    "os.getppid()==int(sys.argv[2]) or sys.exit(1);"
    "os.execvp(sys.argv[3],sys.argv[3:])"
)


def spawn(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    *,
    parent_death_signal: signal.Signals | None = signal.SIGKILL,
    session: bool = False,
    keep: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in its own group, its output appended to a log.

    `parent_death_signal`: sent when its parent dies; `session`: start a session too; `keep`: descriptors it inherits.

    The kernel sends that signal when the calling *thread* ends: call it from one that outlives the process.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    rotate(log)
    argv = list(command)
    if parent_death_signal is not None and sys.platform == "linux":
        argv = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            DIE_WITH_PARENT,
            str(int(parent_death_signal)),
            str(os.getpid()),
            *argv,
        ]
    with open(log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            process_group=None if session else 0,
            start_new_session=session,
            pass_fds=keep,
            umask=PRIVATE_UMASK,
        )


async def exited(process: subprocess.Popen[bytes]) -> int:
    """Wait for its end on any event loop and return its status."""
    while (status := process.poll()) is None:
        await asyncio.sleep(POLL_EVERY_S)
    return status


async def end(process: subprocess.Popen[bytes], within_s: float) -> None:
    """SIGTERM, time to finish, then SIGKILL for it and the rest of its group."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(exited(process), within_s)
    except TimeoutError:
        pass
    finally:
        kill_group(process.pid)
    await exited(process)


def kill_group(pid: int) -> None:
    """End every process of the group that this process leads; fine where none is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def of_installation(folder: Path) -> list[psutil.Process]:
    """Return the running processes that a supervisor of this folder started, whatever their parent is now."""
    mine, found = os.getpid(), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != mine and process.environ().get(MARK) == str(folder):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
    return found


def end_all(processes: Iterable[psutil.Process], within_s: float = 10.0) -> None:
    """SIGTERM to all, then SIGKILL to those that are left. Blocks until they have ended."""
    waited = list(processes)
    for process in waited:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + within_s
    left = [process for process in waited if not _wait_ended(process, deadline)]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    for process in left:
        _wait_ended(process, time.monotonic() + within_s)


def rotate(log: Path) -> None:
    """Move a log that has grown into FILE.1, once; its writer appends, so it continues at the new end."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > ROTATE_ABOVE_BYTES:
            older = log.with_suffix(log.suffix + ".1")
            older.write_bytes(log.read_bytes())
            os.truncate(log, 0)


def tail(log: Path, lines: int = 15, since: int = 0) -> str:
    """Return the last lines of a log; `since`: only what follows after that many bytes."""
    try:
        with log.open("rb") as file:
            size = log.stat().st_size
            file.seek(max(since if since <= size else 0, size - 64_000))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def wait_ended(pid: int, within_s: float) -> bool:
    """Wait for the end of a process, a child or not; False when it still runs. Blocks."""
    with contextlib.suppress(psutil.Error):
        return _wait_ended(psutil.Process(pid), time.monotonic() + within_s)
    return True


def _wait_ended(process: psutil.Process, deadline: float) -> bool:
    # A zombie has ended: in a container it may never be collected.
    with contextlib.suppress(psutil.Error):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_EVERY_S)
    return True
