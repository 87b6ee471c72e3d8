"""Predictions by REST, against a bare Starlette handler with msgspec and River."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from tests.bench import stream
from tests.bench.bus import Bus, topics
from tests.bench.figures import Figure, Sample, against, at_most
from tests.bench.serving import write_model
from tests.bench.settings import Settings
from tests.bench.subject import Subject, program, service, until
from tests.processes import accepts

from everloop.local.ports import free_port
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.registry import LiveVersion, LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade

RATIO, CPU_US, P99_RATIO = 0.4, 150.0, 2.0
ALONE, USUAL = 1, 32
TOPICS = (LoopState.topic, FeaturesComputed.topic, PredictionMade.topic, ObservationReceived.topic)
BODIES = 2_000
AGAIN_AFTER_S = 1.0
PATH = f"/v1/loops/{stream.LOOP}/predict"


@dataclass(frozen=True)
class Load:
    """What a run of the load generator found; CPU is that of the server per request, its records delivered."""

    rate: float
    cpu_us: float
    client_cpu_us: float
    p50_us: float
    p99_us: float
    p999_us: float
    answered: int
    failed: int
    failures: Sequence[str] = ()
    """What the first of the failed requests were answered."""

    @property
    def sample(self) -> Sample:
        """Rate and CPU."""
        return Sample(self.rate, self.cpu_us)


async def measure(settings: Settings) -> list[Figure]:
    """Both answer the same requests in turn; ours also has every record on its topic before the run ends."""
    figures = list[Figure]()
    async with ours_served(settings, "rest.") as (subject, bus), bare_served(settings) as handler:
        for connections in settings.rest_connections:
            count = settings.rest_requests if connections > ALONE else settings.rest_requests // 2
            mine = partial(ours, subject, bus, connections, count)
            bare = partial(load, handler, "/predict", connections, count, bodies())
            figures += _figures(connections, *await in_turn(settings, mine, bare))
    return figures


async def in_turn(settings: Settings, *runs: Callable[[], Awaitable[Load]]) -> list[list[Load]]:
    """What each of these found, run in turn; the first turn warms all of them up."""
    turns = [[await run() for run in runs] for _ in range(settings.runs + 1)]
    return [list(found) for found in zip(*turns[0 if settings.quick else 1 :], strict=True)]


def _figures(connections: int, ours: Sequence[Load], bare: Sequence[Load]) -> list[Figure]:
    what = f"REST, {connections} connection{'s' if connections > 1 else ''}"
    client = median(one.client_cpu_us for one in ours)
    note = f"the load generator used {client:.0f} us a request"
    pair = against(what, [o.sample for o in ours], [b.sample for b in bare], RATIO, note)
    if connections != USUAL:
        pair = replace(pair, goal="", met=None)
    figures = [replace(pair, unit="requests/s")]
    if connections == USUAL:
        figures.append(at_most(f"{what}, CPU per request, delivered", [o.cpu_us for o in ours], CPU_US, "us"))
    figures.append(at_most(f"{what}, failed", [sum(o.failed for o in ours)], 0.0, "requests"))
    ratios = [o.p99_us / b.p99_us for o, b in zip(ours, bare, strict=True)]
    goal = P99_RATIO if connections == ALONE else None
    figures.append(at_most(f"{what}, p99 against the bare handler's", ratios, goal, "times"))
    for name, of in (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us")):
        values = [getattr(o, of) / 1000 for o in ours]
        bare_ms = median(getattr(b, of) / 1000 for b in bare)
        figures.append(replace(at_most(f"{what}, {name}", values, None, "ms"), bare=bare_ms))
    return figures


async def ours(
    subject: Subject,
    bus: Bus,
    connections: int,
    count: int,
    sent: Sequence[bytes] = (),
    rows: int = 1,
    path: str = PATH,
) -> Load:
    """Run the load and wait for its records."""
    return await delivered(subject, bus, count, rows, load(subject, path, connections, count, sent or bodies()))


async def delivered(subject: Subject, bus: Bus, count: int, rows: int, running: Awaitable[Load]) -> Load:
    """Run a load and wait until its records are on their topics: one of each kind for each row that was answered."""
    before, cpu_before = await _records(bus), subject.cpu_s()
    found = await running
    wanted = [n + found.answered * rows for n in before]

    async def all_there() -> bool:
        return all(n >= m for n, m in zip(await _records(bus), wanted, strict=True))

    await until(all_there, subject, 60.0)
    cpu_us = 1e6 * (subject.cpu_s() - cpu_before) / count / rows
    await asyncio.sleep(AGAIN_AFTER_S)  # what is sent twice comes later
    if (there := await _records(bus)) != wanted and not found.failed:
        raise RuntimeError(f"{there} records in place of {wanted}")
    return replace(found, cpu_us=cpu_us)


async def _records(bus: Bus) -> list[int]:
    return [await bus.count(topic) for topic in (PredictionMade.topic, ObservationReceived.topic)]


async def load(
    subject: Subject, path: str, connections: int, count: int, bodies: Sequence[bytes], token: str = ""
) -> Load:
    """Run the load generator against a server."""
    before = subject.cpu_s()
    async with generating(subject, path, connections, count, bodies, token) as process:
        output = await process.stdout.read()  # type: ignore[union-attr]
    return loaded(json.loads(output), 1e6 * (subject.cpu_s() - before) / count)


@asynccontextmanager
async def generating(
    subject: Subject, path: str, connections: int, count: int, bodies: Sequence[bytes], token: str = ""
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The load generator against a server; with a count of 0 it ends on SIGTERM, else by itself.

    One that ends by itself gets no signal: Popen looks whether the child has ended before it sends one, and so takes
    the exit status from asyncio, which then warns of an "unknown child process".
    """
    assert subject.url is not None
    command = ["-m", "tests.bench.rest_client", subject.url.rpartition(":")[2], path, str(connections), str(count)]
    command += [token] if token else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"\n".join(bodies))
    process.stdin.close()
    ends_itself = False
    try:
        yield process
        ends_itself = count > 0
    finally:
        if not ends_itself:
            with suppress(ProcessLookupError):
                process.terminate()
        await process.communicate()  # where nobody has read all of its output, wait() would never end


def loaded(found: Mapping[str, Any], cpu_us: float) -> Load:
    """What the load generator printed; latencies are those of the answered requests."""
    late, answered = found["latencies_us"], len(found["latencies_us"])
    p50, p99, p999 = (float(late[int(len(late) * share)]) if late else 0.0 for share in (0.5, 0.99, 0.999))
    client_us = 1e6 * found["cpu_s"] / max(1, answered)
    rate = answered / found["seconds"]
    return Load(rate, cpu_us, client_us, p50, p99, p999, answered, found["failed"], found["failures"])


def bodies() -> list[bytes]:
    """Request bodies over all entities."""
    rows = stream.rows(BODIES)
    return [json.dumps({"entity": f"e{i % stream.ENTITIES}", "data": fields}).encode() for i, fields, _ in rows]


@asynccontextmanager
async def ours_served(
    settings: Settings,
    prefix: str,
    changes: Mapping[str, Any] | None = None,
    trained: Callable[[Path], LiveVersion] = stream.champion,
    **options: object,
) -> AsyncIterator[tuple[Subject, Bus]]:
    """Serving with a trained champion, ready; the loop's spec has these changes."""
    folder = settings.folder / prefix
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        champion = trained(folder)
        await bus.put(stream.state(champion=champion, **(changes or {})))
        async with service("serving", settings.bootstrap, prefix, folder, **options) as subject:
            await subject.ready()
            await answered_by(subject, champion.version)
            yield subject, bus


async def answered_by(subject: Subject, version: str, token: str = "") -> None:
    """Wait until this version answers."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=subject.url or "", headers=headers, timeout=60, trust_env=False) as client:
        body = json.loads(bodies()[0])

        async def answers() -> bool:
            return bool((await client.post(PATH, json=body)).json().get("version") == version)

        await until(answers, subject, 60.0)


@asynccontextmanager
async def bare_served(settings: Settings, onnx: bytes | None = None) -> AsyncIterator[Subject]:
    """The bare handler with the same kind of model, listening."""
    folder, port = settings.folder / "bare-rest", free_port()
    command = ["tests.bench.bare_rest", str(port), write_model(folder, onnx)]
    async with program(command, Path(folder / "log"), {}, f"http://127.0.0.1:{port}") as subject:
        await until(partial(accepts, port), subject, 30.0)
        yield subject
