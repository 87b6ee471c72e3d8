"""Keeps an installation on the memory bus: the way in of `everloop up --bus memory`."""

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
from everloop.local.discovery import FILE, write_json
from everloop.local.errors import InstallationError
from everloop.local.plan import Plan
from everloop.memory_bus.app import build, configure_logs, run
from everloop_shared.errors import Misconfigured

log = logging.getLogger("everloop_memory")
ROTATE_EVERY_S = 30.0


def folder_of(plan: Plan) -> Path:
    """Where the services put what they need on disk while they run; apart from what an installation on Kafka keeps."""
    return plan.home / "memory"


def doors(plan: Plan) -> dict[str, Any]:
    """What services.json says."""
    pid = os.getpid()
    listed: dict[str, Any] = {name: {"url": plan.url(name), "pid": pid} for name in plan.ports}
    return {"kafka": {"bootstrap": None, "pid": None}, "bus": "memory", **listed, "supervisor": {"pid": pid}}


async def keep(plan: Plan) -> None:
    """Run the installation until SIGTERM, SIGINT or SIGHUP; raises what ended it otherwise."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    services = build(folder_of(plan), plan.ports, os.environ)
    configure_logs(services, services[0].settings.log_level)
    rotating = asyncio.create_task(_rotate(plan.log("supervisor")))
    write_json(plan.home / FILE, doors(plan))
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
    """Keep the installation of a plan given as JSON, under the lock given as a descriptor. Returns the exit status."""
    plan = Plan.from_json(arguments[0])
    try:
        with folder_lock.hold(plan.home, *map(int, arguments[1:])):
            shutil.rmtree(folder_of(plan), ignore_errors=True)  # of one that was killed: its topics are gone
            try:
                uvloop.run(keep(plan))
            finally:
                with suppress(OSError):
                    shutil.rmtree(folder_of(plan))
    except (InstallationError, Misconfigured) as e:
        sys.stderr.write(f"everloop: {e}\n")
        return 2 if isinstance(e, Misconfigured) else 1
    except Exception:
        log.exception("ended by a failure; what was on the bus is gone")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
