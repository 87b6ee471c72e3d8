"""Faults: a seeded schedule of kills, stops and restarts, and their injection."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import psutil
from tests.chaos.installation import Installation
from tests.chaos.replicas import Replicas

from everloop_schemas.topology import SERVICES

TARGETS = (*tuple(SERVICES) * 4, *("learner",) * 3, *("kafka",) * 3, "supervisor")
ACTIONS = ("kill", "kill", "kill", "kill", "stop", "restart")
RESTARTS_WITHIN_S = 20.0


class InstallationIsGone(Exception):
    """The installation did not start again: the run ends."""


@dataclass(frozen=True)
class Fault:
    """An action on a process, so many seconds after the previous fault."""

    after: float
    action: str
    target: str


def schedule(seed: int, every: float, targets: Sequence[str] = TARGETS) -> Iterator[Fault]:
    """Faults without end, one each `every` seconds on average; the same seed is the same schedule."""
    random = Random(seed)
    while True:
        target = random.choice(targets)
        action = "kill" if target == "supervisor" else random.choice(ACTIONS)
        yield Fault(random.uniform(0.2, 1.8) * every, action, target)


@dataclass
class FaultInjector:
    """Injects faults. `stop_s`: how long a process is suspended, longer than a session timeout."""

    installation: Installation
    stop_s: float = 15.0
    replicas: Replicas | None = None
    done: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)
    suspended: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self, faults: Iterator[Fault], seconds: float) -> None:
        """Inject faults for so many seconds, each once its process runs; resumes every process at the end."""
        start = time.monotonic()
        for fault in faults:
            if time.monotonic() + fault.after > start + seconds:
                break
            await asyncio.sleep(fault.after)
            if self.replicas:
                self.replicas.start_missing()
            process = await self._wait_for(fault.target)
            if process is None or fault.target in self.suspended:
                self.done["skipped"] += 1
                self._report(f"{time.monotonic() - start:6.1f} s {fault.target} does not run for a {fault.action}")
                continue
            self._report(f"{time.monotonic() - start:6.1f} s {fault.action} {fault.target} ({process.pid})")
            self.done[fault.action] += 1
            with contextlib.suppress(psutil.Error):
                await self._inject(fault, process)
        await asyncio.gather(*self.suspended.values())

    async def _wait_for(self, target: str) -> psutil.Process | None:
        """The process, once it runs again after the last fault."""
        deadline = time.monotonic() + RESTARTS_WITHIN_S
        find = self.replicas.process if self.replicas and target in self.replicas.names else self.installation.process
        while (process := find(target)) is None and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        return process

    async def _inject(self, fault: Fault, process: psutil.Process) -> None:
        if fault.action == "stop":
            process.suspend()
            self.suspended[fault.target] = asyncio.create_task(self._resume(fault.target, process))
            return
        process.send_signal(signal.SIGTERM if fault.action == "restart" else signal.SIGKILL)
        if fault.target == "supervisor":
            await self._start_again()

    async def _resume(self, target: str, process: psutil.Process) -> None:
        await asyncio.sleep(self.stop_s)
        with contextlib.suppress(psutil.Error):
            process.resume()
        del self.suspended[target]

    async def _start_again(self) -> None:
        """Start the installation again on the same folder, as an operator would."""
        done = await asyncio.to_thread(self.installation.up)
        if done.returncode:
            raise InstallationIsGone(f"`everloop up` on the folder of a killed supervisor: {done.stderr[-1500:]}")

    def _report(self, what: str) -> None:
        self.messages.append(what)
        sys.stderr.write(what + "\n")
