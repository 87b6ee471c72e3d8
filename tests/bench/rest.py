"""Predictions by REST, against a bare Starlette handler with msgspec and River."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import stream
from tests.bench.bus import Bus, topics
from tests.bench.figures import Figure, Sample, against, at_most
from tests.bench.serving import pipeline
from tests.bench.settings import Settings
from tests.bench.subject import Subject, program, service, until

from everloop.local.ports import free_port
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade

RATIO, CPU_US, P99_RATIO = 0.4, 150.0, 2.0
ALONE, USUAL = 1, 32
TOPICS = (LoopState.topic, FeaturesComputed.topic, PredictionMade.topic, ObservationReceived.topic)
BODIES = 2_000


@dataclass(frozen=True)
class Load:
    """What a run of the load generator found; CPU is that of the server per request, its records delivered."""

    rate: float
    cpu_us: float
    client_cpu_us: float
    p50_us: float
    p99_us: float
    p999_us: float
    failed: int

    @property
    def sample(self) -> Sample:
        """Rate and CPU."""
        return Sample(self.rate, self.cpu_us)


async def measure(settings: Settings) -> list[Figure]:
    """Both answer the same requests in turn; ours also has every record on its topic before the run ends."""
    mine, bare = dict[int, list[Load]](), dict[int, list[Load]]()
    async with ours_served(settings, "rest.") as (subject, bus), bare_served(settings) as handler:
        for connections in settings.rest_connections:
            count = settings.rest_requests if connections > ALONE else settings.rest_requests // 4
            for run in range(settings.runs + 1):
                one = await ours(settings, subject, bus, connections, count)
                other = await load(handler, "/predict", connections, count, bodies())
                if run or settings.quick:  # the first one warms both up
                    mine.setdefault(connections, []).append(one)
                    bare.setdefault(connections, []).append(other)
    figures = list[Figure]()
    for connections in settings.rest_connections:
        figures += _figures(connections, mine[connections], bare[connections])
    return figures


def _figures(connections: int, ours: Sequence[Load], bare: Sequence[Load]) -> list[Figure]:
    what = f"REST, {connections} connection{'s' if connections > 1 else ''}"
    failed = sum(one.failed for one in ours)
    client = median(one.client_cpu_us for one in ours)
    note = f"{failed} failed; the load generator used {client:.0f} us a request"
    pair = against(what, [o.sample for o in ours], [b.sample for b in bare], RATIO, note)
    if connections != USUAL:
        pair = replace(pair, goal="", met=None)
    figures = [replace(pair, unit="requests/s")]
    if connections == USUAL:
        figures.append(at_most(f"{what}, CPU per request, delivered", [o.cpu_us for o in ours], CPU_US, "us"))
    ratios = [o.p99_us / b.p99_us for o, b in zip(ours, bare, strict=True)]
    goal = P99_RATIO if connections == ALONE else None
    figures.append(at_most(f"{what}, p99 against the bare handler's", ratios, goal, "times"))
    for name, of in (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us")):
        values = [getattr(o, of) / 1000 for o in ours]
        bare_ms = median(getattr(b, of) / 1000 for b in bare)
        figures.append(replace(at_most(f"{what}, {name}", values, None, "ms"), bare=bare_ms))
    return figures


async def ours(settings: Settings, subject: Subject, bus: Bus, connections: int, count: int) -> Load:
    """Run the load and wait until its records are on their topics, one of each kind for each request."""
    before, cpu_before = await _records(bus), subject.cpu_s()
    found = await load(subject, f"/v1/loops/{stream.LOOP}/predict", connections, count, bodies())
    wanted = [n + count for n in before]

    async def delivered() -> bool:
        return await _records(bus) >= wanted

    await until(delivered, subject, 60.0)
    if await _records(bus) != wanted:
        raise RuntimeError(f"{await _records(bus)} records in place of {wanted}")
    return replace(found, cpu_us=1e6 * (subject.cpu_s() - cpu_before) / count)


async def _records(bus: Bus) -> list[int]:
    return [await bus.count(topic) for topic in (PredictionMade.topic, ObservationReceived.topic)]


async def load(subject: Subject, path: str, connections: int, count: int, bodies: Sequence[bytes]) -> Load:
    """Run the load generator against a server."""
    assert subject.url is not None
    command = ["-m", "tests.bench.rest_client", subject.url.rpartition(":")[2], path, str(connections), str(count)]
    before = subject.cpu_s()
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(b"\n".join(bodies))
    found: dict[str, Any] = json.loads(output)
    if found["answered"] + found["failed"] < count:
        raise RuntimeError(f"{found['answered']} of {count} requests were answered")
    late = found["latencies_us"]
    if found["failures"]:
        raise RuntimeError(f"{found['failed']} requests failed: {found['failures'][0]}")
    p50, p99, p999 = (float(late[min(len(late) - 1, int(len(late) * share))]) for share in (0.5, 0.99, 0.999))
    cpu_us, client_us = 1e6 * (subject.cpu_s() - before) / count, 1e6 * found["cpu_s"] / count
    return Load(count / found["seconds"], cpu_us, client_us, p50, p99, p999, found["failed"])


def bodies() -> list[bytes]:
    """Request bodies over all entities."""
    rows = stream.rows(BODIES)
    return [json.dumps({"entity": f"e{i % stream.ENTITIES}", "data": fields}).encode() for i, fields, _ in rows]


@asynccontextmanager
async def ours_served(settings: Settings, prefix: str, **options: object) -> AsyncIterator[tuple[Subject, Bus]]:
    """Serving with a trained champion, ready."""
    folder = settings.folder / prefix
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.put(stream.state(champion=stream.champion(folder)))
        async with service("serving", settings.bootstrap, prefix, folder, **options) as subject:
            await subject.ready()
            yield subject, bus


@asynccontextmanager
async def bare_served(settings: Settings) -> AsyncIterator[Subject]:
    """The bare handler with the same kind of model, listening."""
    folder, port = settings.folder / "bare-rest", free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").write_bytes(pickle.dumps(pipeline()))
    command = ["tests.bench.bare_rest", str(port), str(folder / "model")]
    async with program(command, Path(folder / "log"), {}, f"http://127.0.0.1:{port}") as subject:

        async def listening() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await until(listening, subject, 30.0)
        yield subject
