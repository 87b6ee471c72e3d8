"""Serving as real processes behind one port, and clients that keep their connections and notice every reset."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import httpx
import psutil
from tests.builders.loops import live_version, loop_spec, loop_state
from tests.processes import runs
from tests.serving.conftest import SPEC, trained

from everloop.local import processes
from everloop.local.kafka import Broker
from everloop.local.ports import HOST, free_port
from everloop_models import save
from everloop_models.store import ArtifactStore
from everloop_schemas.envelope import Event, Topic
from everloop_schemas.registry import BASELINE, LiveVersion
from everloop_serving.adapters.spool import DiskSpool
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import connected
from everloop_shared.settings import Settings

LOOP = "market"
DATA = {"price": 0.5, "demand": 0.5}
PREDICT = f"/v1/loops/{LOOP}/predict"


@dataclass
class ServingProcesses:
    """`python -m everloop_serving` with its own folder, port and topics; started by `start`, ended by `stop`."""

    folder: Path
    bootstrap: str
    workers: int = 2
    environment: dict[str, str] = field(default_factory=dict)
    prefix: str = field(default_factory=lambda: f"serving-{uuid4().hex[:8]}-")
    port: int = field(default_factory=free_port)
    grpc_port: int = 0
    _process: Any = None

    @property
    def url(self) -> str:
        """The address of all workers."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> str:
        """What the processes logged."""
        return (self.folder / "serving.log").read_text()

    def start(self) -> None:
        """Start it; returns at once."""
        env = {
            **os.environ,
            "EVERLOOP_DATA": str(self.folder),
            "EVERLOOP_KAFKA_BOOTSTRAP": self.bootstrap,
            "EVERLOOP_TOPIC_PREFIX": self.prefix,
            "EVERLOOP_INSTANCE": "one",
            "EVERLOOP_SERVING_PORT": str(self.port),
            "EVERLOOP_SERVING_GRPC_PORT": str(self.grpc_port),
            "EVERLOOP_SERVING_WORKERS": str(self.workers),
            **self.environment,
        }
        self._process = processes.spawn((sys.executable, "-m", "everloop_serving"), self.folder / "serving.log", env)

    async def start_with(self, state: Event) -> None:
        """Publish the state of the loop, start, and wait until every worker serves it."""
        await self.publish(state)
        self.start()
        await self.ready()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the process that was started."""
        self._process.send_signal(number)

    async def exit_status(self, within_s: float = 20.0) -> int:
        """The exit status once it has ended."""
        return int(await asyncio.to_thread(self._process.wait, within_s))

    def worker_processes(self) -> list[psutil.Process]:
        """The workers, in the order of their start."""
        found = psutil.Process(self._process.pid).children()
        return sorted(filter(runs, found), key=lambda p: p.create_time())

    async def ready(self, within_s: float = 40.0, revision: int = 1) -> None:
        """Wait until every worker is ready and serves the revision of the loop."""
        for path, wanted in (("/readyz", "ok"), (f"/v1/loops/{LOOP}", f'"revision":{revision}')):
            await self._answer(path, wanted, within_s)

    async def _answer(self, path: str, wanted: str, within_s: float) -> None:
        deadline, answers = time.monotonic() + within_s, 0
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            while answers < 8 * self.workers:  # the kernel chooses the worker, so that one answer says little
                assert time.monotonic() < deadline, self.log[-3_000:]
                try:
                    answer = await client.get(path, headers={"connection": "close"})
                    answers = answers + 1 if wanted in answer.text else 0
                except httpx.TransportError:
                    answers = 0
                await asyncio.sleep(0.01)

    async def listens(self, within_s: float = 20.0) -> None:
        """Wait until it accepts connections."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                _, writer = await asyncio.open_connection(HOST, self.port)
            except OSError:
                assert time.monotonic() < deadline, self.log[-3_000:]
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return

    async def knows_loop(self, within_s: float = 40.0) -> None:
        """Wait until every worker answers for the loop, ready or not."""
        await self._answer(f"/v1/loops/{LOOP}", '"revision":1', within_s)

    def store_state(self, state: Event) -> None:
        """Give every worker the state of the loop on disk, as if it had been there before."""
        for folder in self._worker_folders():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "loops.jsonl").write_bytes(state.encode())

    async def stored(self) -> list[Event]:
        """What the workers, which must have ended, have not published."""
        found = list[Event]()
        for folder in self._worker_folders():
            async with DiskSpool(folder / "spool", limit=10**9, segment_bytes=10**7) as spool:
                found += spool.undelivered()
        return found

    def _worker_folders(self) -> list[Path]:
        folder = self.folder / "serving"
        return [folder, *(folder / f"worker-{n}" for n in range(1, self.workers))]

    async def publish(self, *events: Event) -> None:
        """Publish events for serving to consume."""
        async with connected(kafka_factory(self._settings())("registry")) as engine:
            await engine.publish(events)

    async def records(self, topic: Topic) -> dict[int, list[Event]]:
        """The events of a topic by partition, in their order."""
        async with connected(kafka_factory(self._settings())("reader")) as engine:
            partitions = range(self._settings().partitions)
            ends = {p: await engine.end_offset(topic, p) for p in partitions}
            return {p: [e for _, e in await engine.read(topic, p, 0, ends[p])] for p in partitions}

    def version(self, name: str = "logistic-0@1", store_url: str = "") -> LiveVersion:
        """A trained version in the store."""
        artifact, store = save(trained()), ArtifactStore(store_url or (self.folder / "artifacts").as_uri())
        uri = store.put(store.name(LOOP, name, artifact.sha256), artifact.data)
        return live_version(name, uri=uri, sha256=artifact.sha256, size=artifact.size)

    def state(self, champion: LiveVersion | None = None, **spec: Any) -> Event:
        """The state of the loop."""
        return loop_state(loop_spec(**(SPEC | spec)), champion=champion or live_version(BASELINE), revision=1)

    def _settings(self) -> Settings:
        return Settings(kafka_bootstrap=self.bootstrap, topic_prefix=self.prefix, data=self.folder)

    def end(self) -> None:
        """End it at once, whatever its state."""
        if self._process is not None:
            processes.kill_group(self._process.pid)
            self._process.wait()


@contextmanager
def serving_processes(folder: Path, broker: Broker | str, **options: Any) -> Iterator[ServingProcesses]:
    """Serving, not started yet; ended at the end of the block."""
    bootstrap = broker if isinstance(broker, str) else broker.bootstrap
    serving = ServingProcesses(folder, bootstrap, **options)
    try:
        yield serving
    finally:
        serving.end()


class ConnectionBroken(Exception):
    """The connection ended after a request was sent and before its response was complete."""


class KeepAliveClient:
    """A client with one connection, opened again where the server said that it closes it, or where it is closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: Any, *headers: str) -> tuple[int, Any]:
        """The status and the body of the answer; raises ConnectionBroken, or OSError where it cannot connect."""
        data = json.dumps(body).encode()
        lines = ("content-type: application/json", f"content-length: {len(data)}", *headers)
        return await self._request(f"POST {path}", "\r\n".join(lines), data)

    async def get(self, path: str) -> tuple[int, Any]:
        """As `post`."""
        return await self._request(f"GET {path}", "accept: */*", b"")

    async def _request(self, line: str, headers: str, data: bytes) -> tuple[int, Any]:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            await self.close()
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        try:
            self._writer.write(f"{line} HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n\r\n".encode() + data)
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            answered = dict(line.split(": ", 1) for line in lines[1:] if line)
            answer = await self._reader.readexactly(int(answered["content-length"]))
        except (OSError, asyncio.IncompleteReadError) as e:
            await self.close()
            raise ConnectionBroken(repr(e)) from e
        if answered.get("connection") == "close":
            await self.close()
        is_json = "json" in answered["content-type"]
        return int(lines[0].split()[1]), json.loads(answer) if is_json else answer.decode()

    async def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()
        self._reader = self._writer = None


@asynccontextmanager
async def clients_of(port: int, count: int) -> AsyncIterator[list[KeepAliveClient]]:
    """Clients, with a connection each: the kernel chooses a worker for each connection."""
    clients = [KeepAliveClient(port) for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            await client.close()


@dataclass
class Load:
    """Requests by several clients, each one after the other, and what became of them."""

    port: int
    body: Callable[[str], dict[str, Any]]
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    refused: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def reach(self, answers: int, within_s: float = 120.0) -> None:
        """Wait until so many requests are answered."""
        deadline = time.monotonic() + within_s
        while len(self.answered) < answers:
            assert time.monotonic() < deadline, f"{len(self.answered)} of {answers} answers within {within_s:g} s"
            await asyncio.sleep(0.05)

    async def run(self, name: str, pause_s: float) -> None:
        """Send requests until `stop`; each has an id of its own."""
        client, n = KeepAliveClient(self.port), 0
        while not self.stop.is_set():
            id_, n = f"{name}-{n}", n + 1
            try:
                status, answer = await client.post(PREDICT, self.body(id_))
                if status == 200:
                    self.answered[answer["id"]] = answer
                else:
                    self.failed.append(f"{id_}: {status} {answer}")
            except ConnectionBroken as e:
                self.failed.append(f"{id_}: {e}")
            except OSError:
                self.refused += 1
            await asyncio.sleep(pause_s)
        await client.close()


@asynccontextmanager
async def under_load(port: int, clients: int = 12, pause_s: float = 0.02) -> AsyncIterator[Load]:
    """Load until the end of the block."""
    load = Load(port, lambda id_: {"id": id_, "entity": f"e{crc32(id_.encode()) % 50}", "data": DATA})
    jobs = [asyncio.create_task(load.run(f"c{n}", pause_s)) for n in range(clients)]
    try:
        yield load
    finally:
        load.stop.set()
        await asyncio.gather(*jobs)
