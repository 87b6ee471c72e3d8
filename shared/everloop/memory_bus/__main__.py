"""Runs an installation on the memory bus: the process that `everloop up --bus memory` starts."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

from everloop.local import folder_lock, processes
from everloop.local.discovery import FILE, MEMORY_FOLDER, write_json
from everloop.local.errors import InstallationError
from everloop.local.personal import make_personal_keys
from everloop.local.plan import InstallationPlan
from everloop.memory_bus.app import build, configure_logs, run
from everloop_shared.errors import Misconfigured

log = logging.getLogger("everloop_memory")
ROTATE_EVERY_S = 30.0


def folder_of(plan: InstallationPlan) -> Path:
    """The folder of the services' files while they run; apart from those of an installation on Kafka."""
    return plan.home / MEMORY_FOLDER


def services_json(plan: InstallationPlan) -> dict[str, Any]:
    """The content of services.json."""
    pid = os.getpid()
    listed: dict[str, Any] = {name: {**plan.entry(name), "pid": pid} for name in plan.ports}
    bus = {"kafka": {"bootstrap": None, "pid": None}, "bus": "memory"}
    return {**bus, **listed, **plan.listed, "supervisor": {"pid": pid}}


async def serve(plan: InstallationPlan) -> None:
    """Run the services until SIGTERM, SIGINT or SIGHUP; raises the error that ended one of them."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    folder = folder_of(plan)
    environ = {**make_personal_keys(folder), **os.environ, **plan.access_environment()}
    services = build(folder, plan.ports, environ, plan.grpc_port)
    configure_logs(services, services[0].settings.log_level)
    rotating = asyncio.create_task(_rotate(plan.log("supervisor")))
    write_json(plan.home / FILE, services_json(plan))
    try:
        await run(services, stop)
    finally:
        rotating.cancel()
        (plan.home / FILE).unlink(missing_ok=True)


async def _rotate(file: Path) -> None:
    while True:
        await asyncio.sleep(ROTATE_EVERY_S)
        processes.rotate(file)


def main(arguments: list[str]) -> int:
    """Run the plan given as JSON, under the lock given as a descriptor. Returns the exit status."""
    plan = InstallationPlan.from_json(arguments[0])
    try:
        with folder_lock.hold(plan.home, *map(int, arguments[1:])):
            shutil.rmtree(folder_of(plan), ignore_errors=True)  # left by a process that was killed: its topics are gone
            try:
                uvloop.run(serve(plan))
            finally:
                with suppress(OSError):
                    shutil.rmtree(folder_of(plan))
    except (InstallationError, Misconfigured) as e:
        sys.stderr.write(f"everloop: {e}\n")
        return 2 if isinstance(e, Misconfigured) else 1
    except Exception:
        log.exception("ended by an error; the data on the bus is gone")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
