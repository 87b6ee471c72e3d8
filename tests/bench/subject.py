"""A process under test: started, watched from outside, and ended by its pid."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
from tests.bench.figures import Sample

from everloop.local import processes
from everloop.local.launch import is_ready
from everloop.local.ports import HOST, free_port

LOOK_EVERY_S = 0.05
CHILDREN_EVERY_S = 5.0
WITHIN_S = 600.0
WARM_SHARE = 0.2
Look = tuple[float, int, float]
"""When, how many were done by then, and the CPU seconds used by then."""


@dataclass
class Subject:
    """One process with its children, if any; `url` is set for a service."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str | None = None

    def __post_init__(self) -> None:
        self._tree = Tree(self.process.pid)

    def cpu_s(self) -> float:
        """User and system time so far, in seconds."""
        return self._tree.cpu_s()

    def resident_mb(self) -> float:
        """Resident memory, in MB."""
        return self._tree.resident_mb()

    def check(self) -> None:
        """Raises RuntimeError with the end of the log when it is gone."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the process under test ended:\n{processes.tail(self.log)}")

    async def ready(self, within_s: float = WITHIN_S) -> None:
        """Return once /readyz answers 200."""
        await until(lambda: asyncio.to_thread(is_ready, self.url), self, within_s)

    async def end(self) -> None:
        """SIGTERM and wait: a clean stop."""
        await processes.end(self.process, 30.0)


class Tree:
    """A process and its children, looked for anew only now and then: that walks over all processes there are."""

    def __init__(self, pid: int) -> None:
        self._pid, self._found, self._at = pid, list[psutil.Process](), 0.0

    def cpu_s(self) -> float:
        """User and system time so far, in seconds."""
        times = [one.cpu_times() for one in self._living()]
        return sum(t.user + t.system for t in times)

    def resident_mb(self) -> float:
        """Resident memory, in MB."""
        return sum(one.memory_info().rss for one in self._living()) / 1e6

    def _living(self) -> list[psutil.Process]:
        if time.monotonic() - self._at > CHILDREN_EVERY_S or not all(one.is_running() for one in self._found):
            self._at, self._found = time.monotonic(), []
            with suppress(psutil.Error):
                process = psutil.Process(self._pid)
                self._found = [process, *process.children(recursive=True)]
        return self._found


async def until(true: Callable[[], Awaitable[bool]], subject: Subject | None, within_s: float = WITHIN_S) -> None:
    """Await a condition; raises TimeoutError after the deadline, RuntimeError when the process is gone."""
    deadline = time.monotonic() + within_s
    while not await true():
        if subject:
            subject.check()
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"not within {within_s:g} s; the end of the log:\n{processes.tail(subject.log) if subject else ''}"
            )
        await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def program(
    command: Sequence[str],
    log: Path,
    environment: dict[str, str],
    url: str | None = None,
    interpreter: str = sys.executable,
) -> AsyncIterator[Subject]:
    """Run a Python module with its arguments for the length of the block, then end it whatever it does."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("EVERLOOP_")}
    process = processes.spawn((interpreter, "-m", *command), log, clean | environment)
    try:
        yield Subject(process, log, url)
    finally:
        processes.kill_group(process.pid)  # its topics are thrown away: nothing is worth waiting for
        await processes.exited(process)


def service(
    name: str, bootstrap: str, prefix: str, folder: Path, **settings: object
) -> AbstractAsyncContextManager[Subject]:
    """One service of ours, alone, as `everloop up` would start it."""
    return service_of(f"everloop_{name}", name, bootstrap, prefix, folder, **settings)


@asynccontextmanager
async def service_of(
    module: str, name: str, bootstrap: str, prefix: str, folder: Path, **settings: object
) -> AsyncIterator[Subject]:
    """The same by another program that builds it; at a free port unless its port is given."""
    port = settings.pop(f"{name}_port", None) or free_port()
    environment = {
        "EVERLOOP_DATA": str(folder),
        "EVERLOOP_KAFKA_BOOTSTRAP": bootstrap,
        "EVERLOOP_TOPIC_PREFIX": prefix,
        "EVERLOOP_HOST": HOST,
        f"EVERLOOP_{name.upper()}_PORT": str(port),
        "EVERLOOP_SERVING_GRPC_PORT": "0",
        **{f"EVERLOOP_{key.upper()}": str(value) for key, value in settings.items()},
    }
    log = folder / "logs" / f"{name}.log"
    async with program([module], log, environment, f"http://{HOST}:{port}") as subject:
        yield subject


async def drained(subject: Subject, progress: Callable[[], Awaitable[int]], total: int, parts: int = 1) -> list[Sample]:
    """Watch until `progress` comes to `total`; what was done in each of `parts` stretches after the warm-up.

    Only looks at work in full flow count: the start of the process, its warm-up and its end are left out.
    """
    looks: list[Look] = []

    async def done() -> bool:
        looks.append((time.perf_counter(), await progress(), subject.cpu_s()))
        return looks[-1][1] >= total

    await until(done, subject)
    return stretches(looks, parts)


def stretches(looks: Sequence[Look], parts: int) -> list[Sample]:
    """What was done between the looks, in so many parts; one part where it was over too soon."""
    first, total = looks[0][1], looks[-1][1]
    warm = first + (total - first) * WARM_SHARE
    flowing = [look for look in looks if warm <= look[1] < total] or [looks[0]]
    marks = [flowing[round(i * (len(flowing) - 1) / parts)] for i in range(parts + 1)]
    if all(b[1] > a[1] for a, b in pairwise(marks)):
        return [_between(a, b) for a, b in pairwise(marks)]
    started = next((a for a, b in pairwise(looks) if b[1] > first), looks[0])
    return [_between(started, looks[-1])]


def _between(a: Look, b: Look) -> Sample:
    return Sample((b[1] - a[1]) / max(b[0] - a[0], 1e-9), 1e6 * (b[2] - a[2]) / max(b[1] - a[1], 1))
