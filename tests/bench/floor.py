"""The whole loop against its floor: the same records over the same hops in bare aiokafka with msgspec and River."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx
from tests.bench import stream
from tests.bench.bus import Bus, connected, topics
from tests.bench.figures import Figure, at_most
from tests.bench.loop import CPU_US, Costs, feed, flow, total, warm_installation
from tests.bench.settings import Settings
from tests.bench.subject import Subject, Tree, program, until

from everloop.local.ports import HOST, free_port
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.serving import PredictionMade

RATIO = 2.5
PREFIX = "floor."
SETTLES_WITHIN_S = 1.0
"""Within so long the floor has learned what it has joined."""
ROLES = ("ingest", "feature", "serving", "training", "monitoring")
TOPICS = tuple(
    kind.topic
    for kind in (EventReceived, LabelReceived, FeaturesComputed, EntityState, PredictionMade, OutcomeObserved)
)


@dataclass
class Floor:
    """Its processes, and where they are posted to."""

    subjects: dict[str, Subject]
    broker: Tree
    client: httpx.AsyncClient

    def cpu_s(self) -> Costs:
        """CPU seconds so far by process."""
        return {role: subject.cpu_s() for role, subject in self.subjects.items()} | {"broker": self.broker.cpu_s()}

    async def post(self, loop: str, endpoint: str, entries: list[dict[str, Any]]) -> None:
        """Send entries to the floor's ingest."""
        url = f"{self.subjects['ingest'].url}/v1/loops/{loop}/{endpoint}"
        (await self.client.post(url, json=entries)).raise_for_status()


async def measure(settings: Settings) -> list[Figure]:
    """The floor, then ours, each alone on the broker and at the same load, whose own CPU counts for neither."""
    floor, ours = list[Costs](), list[Costs]()
    async with running(settings) as (bare, bus):
        for run in range(settings.runs + 1):
            looks = await feed(settings, f"floor{run}", stream.LOOP, bare.post, bus, bare.cpu_s)
            await asyncio.sleep(SETTLES_WITHIN_S)
            looks.settled = bare.cpu_s()
            floor.append(looks.cpu_us())
    async with (
        warm_installation(settings) as (at_work, loop),
        connected(settings.bootstrap, at_work.prefix) as bus,
    ):
        for run in range(settings.runs + 1):
            looks, _ = await flow(settings, at_work, bus, loop, run * settings.loop_observations)
            ours.append(looks.cpu_us())
    pairs = list(zip(ours, floor, strict=True))[1:]  # the first run of each warms it up
    note = ", ".join(f"{role} {median(c[role] for c in floor[1:]):.0f}" for role in floor[0])
    return [
        at_most("whole loop, CPU per labelled observation, alone", [total(a) for a, _ in pairs], CPU_US, "us/obs"),
        at_most("its floor: the same hops in bare aiokafka", [total(b) for _, b in pairs], None, "us/obs", note),
        at_most("whole loop / floor", [total(a) / total(b) for a, b in pairs], RATIO, "times"),
    ]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[Floor, Bus]]:
    """The floor's processes, consuming."""
    folder, port = settings.folder / "floor", free_port()
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(topics(settings.bootstrap, PREFIX, *TOPICS))
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=60, trust_env=False))
        subjects = dict[str, Subject]()
        for role in ROLES:
            command = ["tests.bench.floor_services", role, settings.bootstrap, PREFIX]
            command += [str(port)] if role == "ingest" else []
            url = f"http://{HOST}:{port}" if role == "ingest" else None
            started = program(command, folder / f"{role}.log", {}, url)
            subjects[role] = await stack.enter_async_context(started)
        floor = Floor(subjects, Tree(settings.broker_pid), client)

        async def listening() -> bool:
            try:
                await floor.post("market", "events", [])
            except httpx.TransportError:
                return False
            return True

        await until(listening, subjects["ingest"], 30.0)
        yield floor, bus
