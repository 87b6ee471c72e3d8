"""Starts a supervisor as a process, waits until its services are ready, stops it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everloop.local import folder_lock, processes
from everloop.local.discovery import FILE, find_tls, read_json
from everloop.local.errors import BrokerNotReady, FolderNotWritable, InstallationNotReady
from everloop.local.kafka import answers, listens
from everloop.local.plan import InstallationPlan
from everloop_schemas.topology import SERVICES
from everloop_shared.errors import Misconfigured

READY_WITHIN_S = 180.0
STOP_WITHIN_S = 45.0
GIVE_UP_AFTER_RESTARTS = 8
MIN_FREE_BYTES = 200_000_000
POLL_EVERY_S = 0.2


@dataclass
class Launched:
    """A supervisor that was just started; its log had `log_start` bytes then."""

    plan: InstallationPlan
    process: subprocess.Popen[bytes]
    log_start: int

    def log_since_start(self) -> str:
        """Return the end of what the supervisor has logged since."""
        return processes.tail(self.plan.log("supervisor"), since=self.log_start)

    def stop(self) -> None:
        """End the supervisor and, through it, the installation. Blocks."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_WITHIN_S)
        if folder_lock.holder(self.plan.home) in (
            None,
            self.process.pid,
            os.getpid(),
        ):  # not one that another process started
            stop(self.plan.home)

    def let_go(self) -> None:
        """Leave it running."""
        self.process.returncode = 0  # else Popen warns about a child that still runs


def launch(plan: InstallationPlan, lock: int, *, detach: bool) -> Launched:
    """Start the supervisor in a session of its own, under the lock that the caller holds.

    Unless detached, it stops when this process dies. On the memory bus the supervisor process runs the services too.
    """
    log = plan.log("supervisor")
    command = (sys.executable, "-m", plan.supervisor_module, plan.to_json(), str(lock))
    log_start = log.stat().st_size if log.exists() else 0
    parent_death_signal = None if detach else signal.SIGTERM
    process = processes.spawn(
        command, log, plan.environment(), parent_death_signal=parent_death_signal, session=True, keep=[lock]
    )
    return Launched(plan, process, log_start)


def check_folder(folder: Path) -> None:
    """Make the folder and try to write in it. Raises FolderNotWritable."""
    fix = "Make room or give the rights, or choose another folder with --data."
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"\0" * 1_000_000)
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as e:
        raise FolderNotWritable(f"The data folder {folder} cannot be written: {e.strerror}.", fix) from e
    if free < MIN_FREE_BYTES:
        what = f"The disk of {folder} has {free // 1_000_000} MB left; Kafka's log needs at least"
        raise FolderNotWritable(f"{what} {MIN_FREE_BYTES // 1_000_000} MB.", fix)


async def check_cluster(bootstrap: str, config: Path | None = None, within_s: float = 10.0) -> None:
    """Raise BrokerNotReady unless the user's own cluster answers."""
    secured = (
        config or "EVERLOOP_KAFKA_CONFIG" in os.environ
    )  # only who uses the cluster reads that file: here, connect
    try:
        await asyncio.wait_for(listens(bootstrap) if secured else answers(bootstrap), within_s)
    except (OSError, TimeoutError) as e:
        fix = "Check the address and that the broker runs, or leave --kafka out to use Kafka at hand."
        raise BrokerNotReady(f"No Kafka answers at {bootstrap} within {within_s:.0f} s.", fix) from e


def wait_ready(
    folder: Path,
    alive: Callable[[], bool],
    report: Callable[[str], None] = lambda state: None,
    *,
    services: Sequence[str] = tuple(SERVICES),
    within_s: float = READY_WITHIN_S,
    bus: str = "Kafka",
) -> dict[str, Any]:
    """Return services.json once every /readyz answers 200. Blocks. Raises InstallationNotReady with the logs' ends."""
    deadline = time.monotonic() + within_s
    while True:
        listed = read_json(folder / FILE)
        waiting = [name for name in services if not is_ready(listed.get(name, {}).get("url"), str(folder))]
        if "kafka" in listed and not waiting:
            return listed
        report("waiting for " + ", ".join(waiting) if services[0] in listed else f"starting {bus}")
        if not alive():
            raise InstallationNotReady("The supervisor ended.")
        failing = [n for n in waiting if listed.get(n, {}).get("restarts", 0) >= GIVE_UP_AFTER_RESTARTS]
        if failing or time.monotonic() > deadline:
            raise not_ready(folder, failing or waiting, within_s)
        time.sleep(POLL_EVERY_S)


def not_ready(folder: Path, names: list[str], within_s: float) -> InstallationNotReady:
    """Return the error that names each service that is not ready, with the end of its log."""
    one_process = "bus" in read_json(folder / FILE)
    writers = ["supervisor"] if one_process else names or ["supervisor", "kafka"]
    logs = [folder / "logs" / f"{name}.log" for name in writers]
    what = f"Not ready after {within_s:.0f} s or too many restarts: {', '.join(names) or 'kafka'}."
    ends = [f"-- the end of {log}\n{processes.tail(log)}" for log in logs]
    return InstallationNotReady(what, "\n".join(ends))


def is_ready(url: str | None, data: str | None = None) -> bool:
    """Whether /readyz of this service answers 200 now; with TLS, trusting what the installation in `data` does."""
    if not url:
        return False
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    try:
        if url.startswith("https:") and (tls := find_tls(data)):
            handlers.append(urllib.request.HTTPSHandler(context=tls.context()))
        with urllib.request.build_opener(*handlers).open(url + "/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, urllib.error.URLError, Misconfigured):
        return False


def stop(folder: Path) -> bool:
    """Stop the installation of this folder and every process left of it; False when nothing ran. Blocks."""
    pid = folder_lock.holder(folder)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        processes.wait_ended(pid, STOP_WITHIN_S)
    left = processes.of_installation(folder)
    processes.end_all(left)
    with contextlib.suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)
    return pid is not None or bool(left)
