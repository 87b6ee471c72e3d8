"""What goes wrong: a seeded schedule of deaths, stops and restarts, and how each is done."""

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
DEEDS = ("kill", "kill", "kill", "kill", "stop", "restart")
COMES_BACK_WITHIN_S = 20.0


class InstallationIsGone(Exception):
    """The installation did not start again: nothing more can be tried."""


@dataclass(frozen=True)
class Fault:
    """So many seconds after the fault before, this happens to that process."""

    after: float
    deed: str
    target: str


def schedule(seed: int, every: float, targets: Sequence[str] = TARGETS) -> Iterator[Fault]:
    """Faults without end, one each `every` seconds on average; the same seed is the same schedule."""
    random = Random(seed)
    while True:
        target = random.choice(targets)
        deed = "kill" if target == "supervisor" else random.choice(DEEDS)
        yield Fault(random.uniform(0.2, 1.8) * every, deed, target)


@dataclass
class Storm:
    """Does the deeds to an installation. `stop_s`: how long a process stands still, longer than any session lasts."""

    installation: Installation
    stop_s: float = 15.0
    replicas: Replicas | None = None
    done: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    asleep: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self, faults: Iterator[Fault], seconds: float) -> None:
        """Faults for so many seconds, each as soon as there is something to do it to; then everybody is awake."""
        start = time.monotonic()
        for fault in faults:
            if time.monotonic() + fault.after > start + seconds:
                break
            await asyncio.sleep(fault.after)
            if self.replicas:
                self.replicas.start_missing()
            process = await self._there(fault.target)
            if process is None or fault.target in self.asleep:
                self.done["skipped"] += 1
                self._tell(f"{time.monotonic() - start:6.1f} s {fault.target} is not there for a {fault.deed}")
                continue
            self._tell(f"{time.monotonic() - start:6.1f} s {fault.deed} {fault.target} ({process.pid})")
            self.done[fault.deed] += 1
            with contextlib.suppress(psutil.Error):
                await self._do(fault, process)
        await asyncio.gather(*self.asleep.values())

    async def _there(self, target: str) -> psutil.Process | None:
        """The process, once it is there again after the last fault."""
        deadline = time.monotonic() + COMES_BACK_WITHIN_S
        look = self.replicas.process if self.replicas and target in self.replicas.names else self.installation.process
        while (process := look(target)) is None and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        return process

    async def _do(self, fault: Fault, process: psutil.Process) -> None:
        if fault.deed == "stop":
            process.suspend()
            self.asleep[fault.target] = asyncio.create_task(self._wake(fault.target, process))
            return
        process.send_signal(signal.SIGTERM if fault.deed == "restart" else signal.SIGKILL)
        if fault.target == "supervisor":
            await self._up_again()

    async def _wake(self, target: str, process: psutil.Process) -> None:
        await asyncio.sleep(self.stop_s)
        with contextlib.suppress(psutil.Error):
            process.resume()
        del self.asleep[target]

    async def _up_again(self) -> None:
        """A person starts the installation again on the same folder."""
        done = await asyncio.to_thread(self.installation.up)
        if done.returncode:
            raise InstallationIsGone(f"`everloop up` on the folder of a killed supervisor: {done.stderr[-1500:]}")

    def _tell(self, what: str) -> None:
        self.told.append(what)
        sys.stderr.write(what + "\n")
