"""A service as this process's main job: signals, exit status, and protection against a long suspension."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

from everloop_shared.errors import Misconfigured
from everloop_shared.logging import configure_logging
from everloop_shared.service import Service
from everloop_shared.settings import PRIVATE_UMASK, Settings
from everloop_shared.tasks import cancel_all
from everloop_shared.workers import Worker, WorkerSupervisor

log = logging.getLogger(__name__)
DRAIN_S = 10.0
"""Seconds a service may take from the stop signal to its end."""
MAX_SUSPENSION_S = 5.0
"""Shorter than any session timeout of Kafka: after a longer suspension, partitions may belong to another process."""


def run(build: Callable[[], Service]) -> None:
    """Build and run a service as this process's main job.

    Exit status: 0 after SIGTERM or SIGINT, 1 after a failure (the log has its traceback), 2 when misconfigured.
    """
    import uvloop

    service = None
    os.umask(PRIVATE_UMASK)
    try:
        service = build()
        configure_logging(service.name, service.settings.log_level)
        _tune_garbage_collector()
        uvloop.run(_run_guarded(service))
    except Misconfigured as e:
        sys.stderr.write(f"everloop{f' {service.name}' if service else ''}: {e.detail}\n")
        raise SystemExit(2) from None
    except Exception:
        log.exception("stopped by a failure")
        raise SystemExit(1) from None


def run_workers(
    service: str, settings: Settings, count: int, build: Callable[[Worker], Service], own_ports: Mapping[str, int]
) -> None:
    """Run `count` processes of a service behind one port; exit status as of `run`.

    `own_ports` are as of `WorkerSupervisor`.
    """
    os.umask(PRIVATE_UMASK)
    configure_logging(service, settings.log_level)
    _tune_garbage_collector()
    supervisor = WorkerSupervisor(
        service, count, settings.host, settings.port, lambda worker: run(lambda: build(worker)), own_ports
    )
    try:
        settings.check_access()
        status = supervisor.run()
    except Misconfigured as e:
        sys.stderr.write(f"everloop {service}: {e.detail}\n")
        raise SystemExit(2) from None
    raise SystemExit(status)


class SuspensionGuard:
    """Ends a process that was suspended for so long that others may have taken over its partitions.

    Once resumed, it would continue with stale state: its producer sends, and a state that is written late hides a
    newer one. The handler of SIGCONT runs before any of that.
    """

    def __init__(self) -> None:
        self._last_seen = time.monotonic()
        signal.signal(signal.SIGCONT, self._on_resume)

    def _on_resume(self, *_: object) -> None:
        if (suspended_s := time.monotonic() - self._last_seen) > MAX_SUSPENSION_S:
            os.write(2, b"suspended for %.0f s, longer than the broker waits: ending for a restart\n" % suspended_s)
            os._exit(os.EX_TEMPFAIL)

    async def keep_time(self) -> None:
        """Record the time again and again, until cancelled."""
        while True:
            self._last_seen = time.monotonic()
            await asyncio.sleep(0.5)


async def _run_guarded(service: Service) -> None:
    keeping_time = asyncio.ensure_future(SuspensionGuard().keep_time())
    try:
        await _run_until_signal(service)
    finally:
        await cancel_all([keeping_time])


async def _run_until_signal(service: Service) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running, stopping = asyncio.ensure_future(service.run(stop)), asyncio.ensure_future(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    done, _ = await asyncio.wait([running], timeout=DRAIN_S)
    await cancel_all([stopping])
    if not done:
        running.cancel()
        raise TimeoutError(f"the drain took longer than {DRAIN_S:.0f} s")
    await running


def _tune_garbage_collector() -> None:
    """Exempt what is imported and built from collections, and collect a tenth as often.

    A batch of events is thousands of objects without cycles, which each collection would walk in vain: a fifth of the
    CPU time of an event (decision 0096).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
