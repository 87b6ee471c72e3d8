"""The supervisor: keeps the broker and the services running on their ports, and ends all of them when it ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everloop.errors import EverloopError
from everloop.local import folder_lock, jars, processes
from everloop.local.discovery import FILE, write_json
from everloop.local.errors import BrokerNotReady
from everloop.local.kafka import READY_WITHIN_S, STOP_WITHIN_S, answers, prepare
from everloop.local.personal import make_personal_keys
from everloop.local.plan import InstallationPlan
from everloop.local.secured_kafka import KafkaSecurity
from everloop_shared.backoff import Backoff

DRAIN_S = 10.0
HEALTHY_AFTER_S = 30.0
"""A process that ran so long starts again without a longer delay."""
RESTART_BACKOFF = Backoff(first_s=0.2, longest_s=10.0, jitter=0.0)
MAINTAIN_EVERY_S = 10.0
RENEW_EVERY_S = 3_600.0
"""How often it is checked whether certificates are due."""
MAX_BROKER_STARTS = 3

log = logging.getLogger(__name__)


@dataclass
class Child:
    """One process to keep alive, and the entry it has in services.json."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    log: Path
    entry: dict[str, Any]
    drain_s: float = DRAIN_S
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, for the first time or again."""
        self.process = processes.spawn(self.command, self.log, self.environment)
        self.starts += 1
        self.entry |= {"pid": self.process.pid, "restarts": self.starts - 1}
        return self.process

    async def stop(self) -> None:
        """End it and its group."""
        if self.process is not None:
            await processes.end(self.process, self.drain_s)


class Supervisor:
    """Runs one plan until `stopping` is set."""

    def __init__(self, plan: InstallationPlan) -> None:
        self.plan = plan
        self.stopping = asyncio.Event()
        self._broker: Child | None = None
        self._services: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._listed = False

    async def run(self, lock: int | None = None) -> None:
        """Hold the folder, start all, keep them alive until `stopping` is set, end all.

        `lock`: the descriptor of the folder lock that `up` holds. Raises InstallationError when another process holds
        the folder, or the broker does not start.
        """
        with folder_lock.hold(self.plan.home, lock):
            processes.end_all(processes.of_installation(self.plan.home))  # orphans of a supervisor that was killed
            self._write_services_json()
            running = asyncio.ensure_future(self._run_all())
            stop = asyncio.ensure_future(self.stopping.wait())
            try:
                await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()
            finally:
                await _cancel([running, stop, *self._tasks])
                await self._end()

    async def _run_all(self) -> None:
        bootstrap = self.plan.kafka or await self._start_broker()
        keys = make_personal_keys(self.plan.home)
        for service, command in self.plan.commands.items():
            own = {name: value for name, value in keys.items() if name.startswith(f"EVERLOOP_{service.upper()}_")}
            environment = own | self.plan.service_environment(service, bootstrap)
            entry, log_file = self.plan.entry(service), self.plan.log(service)
            self._services.append(Child(service, command, environment, log_file, entry))
            self._supervise(self._services[-1])
        await self._maintain()

    async def _start_broker(self) -> str:
        class_path = await asyncio.to_thread(jars.fetch)
        certificates = self.plan.certificates
        security = KafkaSecurity(Path(certificates)) if certificates else None
        setup = await asyncio.to_thread(prepare, self.plan.home, class_path, security)
        entry = {"bootstrap": setup.bootstrap} | ({"config": str(setup.client)} if setup.client else {})
        environment = self.plan.environment()
        self._broker = Child("kafka", setup.command, environment, setup.log, entry, drain_s=STOP_WITHIN_S)
        self._supervise(self._broker)
        answering = asyncio.ensure_future(answers(setup.bootstrap, setup.client))
        deadline = time.monotonic() + READY_WITHIN_S
        try:
            while not answering.done():
                if time.monotonic() > deadline or self._broker.starts > MAX_BROKER_STARTS:
                    end = processes.tail(setup.log)
                    raise BrokerNotReady(f"Kafka does not start. The end of {setup.log}:\n{end}")
                await asyncio.wait({answering}, timeout=0.1)
            answering.result()
        finally:
            await _cancel([answering])
        if setup.client:
            await asyncio.to_thread(_allow_services, setup.bootstrap, setup.client)
        log.info("kafka is ready on %s", setup.bootstrap)
        return setup.bootstrap

    def _supervise(self, child: Child) -> None:
        self._tasks.append(asyncio.ensure_future(self._keep_alive(child)))

    async def _keep_alive(self, child: Child) -> None:
        failures = 0
        while True:
            since = time.monotonic()
            try:
                process = child.start()
                log.info("%s started, pid %d", child.name, process.pid)
                self._write_services_json()
                status = await processes.exited(process)
                processes.kill_group(process.pid)  # its children too
            except OSError as e:  # no room for its log, no memory for another process: wait, try again
                status = e.errno or -1
            failures = failures_in_a_row(failures, time.monotonic() - since)
            delay = RESTART_BACKOFF.pause_s(failures)
            log.warning("%s ended with status %d; it starts again in %.1f s", child.name, status, delay)
            await asyncio.sleep(delay)

    def _write_services_json(self) -> None:
        children = [child for child in (self._broker, *self._services) if child is not None]
        listed: dict[str, Any] = {child.name: child.entry for child in children if child.starts}
        if self.plan.kafka:
            listed["kafka"] = {"bootstrap": self.plan.kafka, "pid": None}
        try:
            write_json(self.plan.home / FILE, {**listed, **self.plan.listed, "supervisor": {"pid": os.getpid()}})
            self._listed = True
        except OSError as e:
            self._listed = False
            log.error("%s cannot be written: %s", FILE, e)

    async def _maintain(self) -> None:
        renew_at = time.monotonic() + RENEW_EVERY_S
        while True:
            await asyncio.sleep(MAINTAIN_EVERY_S)
            if self.plan.certificates and time.monotonic() > renew_at:
                renew_at = time.monotonic() + RENEW_EVERY_S
                await asyncio.to_thread(_renew, Path(self.plan.certificates))
            if not self._listed:
                self._write_services_json()
            for name in ("supervisor", "kafka", *self.plan.commands):
                processes.rotate(self.plan.log(name))

    async def _end(self) -> None:
        log.info("stopping")
        await asyncio.gather(*[child.stop() for child in self._services])
        if self._broker:
            await self._broker.stop()
        processes.end_all(processes.of_installation(self.plan.home), within_s=2)
        (self.plan.home / FILE).unlink(missing_ok=True)
        log.info("stopped")


def failures_in_a_row(before: int, ran_s: float) -> int:
    """Return the failures in a row with the present one; a process that ran long enough was healthy."""
    return 1 if ran_s > HEALTHY_AFTER_S else before + 1


def _allow_services(bootstrap: str, client: Path) -> None:
    from everloop.acls.applying import allow_services  # confluent-kafka, which only a secured broker needs

    allow_services(bootstrap, client)


def _renew(folder: Path) -> None:
    from everloop.certs.folder import ensure_certificates  # X.509, which an installation without TLS does without

    try:
        ensure_certificates(folder)
    except EverloopError as e:
        log.error("certificates cannot be renewed: %s", e)


async def _cancel(tasks: list[asyncio.Future[Any]] | list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def supervise(plan: InstallationPlan, lock: int | None = None) -> None:
    """Run the plan until SIGTERM or SIGINT."""
    supervisor = Supervisor(plan)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stopping.set)
    await supervisor.run(lock)


def main(arguments: list[str]) -> int:
    """Supervise the plan given as JSON, under the lock given as a descriptor; started by `everloop up`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        asyncio.run(supervise(InstallationPlan.from_json(arguments[0]), *map(int, arguments[1:])))
    except (EverloopError, OSError) as e:
        sys.stdout.write(f"{e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
