"""What the registry's tests share: a loop file, events as the other services publish them, and the service itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
from tests.databases import database_url
from tests.http_apps import http_app

from everloop_models import build, save
from everloop_models.store import ArtifactStore
from everloop_registry.adapters.decision_store import RegistryUnitOfWork
from everloop_registry.adapters.loop_reader import SqlLoopReader
from everloop_registry.app import build as build_registry
from everloop_registry.handlers import CommandHandlers, EventHandlers, Quota
from everloop_registry.settings import RegistrySettings
from everloop_registry.tables import MIGRATIONS
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.monitoring import (
    DriftDetected,
    DriftDetectedData,
    EvaluationUpdated,
    EvaluationUpdatedData,
    Scores,
)
from everloop_schemas.registry import Decided
from everloop_schemas.serving import VersionState, VersionStateData
from everloop_schemas.training import (
    ChallengeUpdated,
    ChallengeUpdatedData,
    Line,
    Manifest,
    ModelTrained,
    ModelTrainedData,
    RunRequested,
    RunRequestedData,
)
from everloop_shared.commands import ANONYMOUS
from everloop_shared.database import Database
from everloop_shared.errors import FieldError
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import EngineFactory, Position

LOOP_FILE = """
loop: market
task: binary
schema:
  price: {type: number}
  demand: {type: number}
rollout: {shadow: 100 predictions, canary: [10%, 50%], step: 100 outcomes}
"""
EPOCH = datetime(2024, 5, 1, tzinfo=UTC)
MODEL = ModelSpec(preset="logistic")
E = TypeVar("E", bound=Event)
T = TypeVar("T")


def spec(**changes: Any) -> LoopSpec:
    """The market loop."""
    fields = {"price": {"type": "number"}, "demand": {"type": "number"}}
    rollout = {"shadow": 100, "canary": [0.1, 0.5], "step": 100}
    return LoopSpec.model_validate(
        {"loop": "market", "task": "binary", "schema": fields, "rollout": rollout, **changes}
    )


def event(kind: type[E], data: Any, name: str, loop: str = "market", trace: str | None = None) -> E:
    """An event of another service."""
    fields = {"id": name, "time": EPOCH, "subject": loop, "loop": loop, "revision": 1, "traceparent": trace}
    return kind.model_validate({**fields, "data": data})


def line(name: str) -> Line:
    """A line, with the run that started it."""
    return Line(line=name, model=MODEL, run=f"run-{name}", start_offset=0, requested_offset=0)


def challenge(start: int, losses: Mapping[str, Sequence[float | None]], loop: str = "market") -> ChallengeUpdated:
    """Losses of the lines from offset `start` on."""
    n = len(next(iter(losses.values())))
    data = ChallengeUpdatedData(
        offsets=tuple(range(start, start + n)),
        losses={k: tuple(v) for k, v in losses.items()},
        lines=tuple(line(name) for name in losses if name != "0"),
    )
    return event(ChallengeUpdated, data, f"challenge-{start}-{n}", loop)


def evaluation(start: int, losses: Mapping[str, Sequence[float | None]], loop: str = "market") -> EvaluationUpdated:
    """Logged losses of versions from offset `start` on; the loop has no other outcomes before."""
    n = len(next(iter(losses.values())))
    scores = Scores(metric="accuracy", served=0.8, rolling=0.8, no_change=0.5, majority=0.5)
    data = EvaluationUpdatedData(
        offsets=tuple(range(start, start + n)),
        served=(next(iter(losses)),) * n,
        losses={k: tuple(v) for k, v in losses.items()},
        outcomes=start + n,
        scores=scores,
    )
    return event(EvaluationUpdated, data, f"evaluation-{start}-{n}", loop)


def drift(offset: int, **changes: Any) -> DriftDetected:
    """A drift of the served error at an offset, or of what `changes` say."""
    data = DriftDetectedData(
        detector="hddm_w",
        offset=offset,
        change_point=offset - 50,
        outcomes=offset,
        outcomes_since_change=50,
        error_before=0.2,
        error_after=0.6,
        version="a-0@100",
        **changes,
    )
    return event(DriftDetected, data, f"drift-{offset}")


def run_requested(name: str) -> RunRequested:
    """A line begins."""
    data = RunRequestedData(
        run=f"run-{name}",
        key=name,
        trigger="drift",
        reason="drift",
        line=name,
        model=MODEL,
        start_offset=0,
        requested_offset=0,
    )
    return event(RunRequested, data, f"requested-{name}")


def state(version: str, state: str = "ready", instance: str = "serving-1", serving: str | None = None) -> VersionState:
    """An instance's report on a version."""
    fields = {"version": version, "instance": instance, "state": state, "reason": "test", "serving": serving}
    data = VersionStateData.model_validate(fields)
    return event(VersionState, data, f"{state}-{version}-{instance}")


def trained(name: str, offset: int, reason: str = "refresh", **changes: Any) -> ModelTrained:
    """A version of a line."""
    manifest = Manifest(
        loop_revision=1,
        model=MODEL,
        topic="feature.outcome_observed.v1",
        partition=0,
        start_offset=0,
        end_offset=offset,
        outcomes=offset,
        seed=1,
        libraries={},
    )
    version = f"{name}@{offset}"
    artifact = {"uri": f"file:///nowhere/{version}", "sha256": "0" * 64, "size": 10, "signature": ("demand", "price")}
    fields = {"version": version, "line": name, "offset": offset, "run": f"run-{name}", "reason": reason}
    data = ModelTrainedData.model_validate({**fields, **artifact, "manifest": manifest, **changes})
    return event(ModelTrained, data, f"trained-{version}-{reason}")


def stored(name: str, offset: int, folder: Path, reason: str = "refresh") -> ModelTrained:
    """A version of a line with a real artifact."""
    model = build(MODEL, spec())
    for i in range(10):
        model.learn({"price": float(i), "demand": 1.0}, i > 5)
    artifact = save(model)
    store = ArtifactStore(folder.as_uri())
    uri = store.put(store.name("market", f"{name}@{offset}", artifact.sha256), artifact.data)
    changes = {"uri": uri, "sha256": artifact.sha256, "size": artifact.size, "signature": model.signature}
    return trained(name, offset, reason, **changes)


@dataclass
class StubChecks:
    """The checks as an adapter in memory: versions and specs pass unless a test refuses them."""

    refused: dict[str, str] = field(default_factory=dict)
    wrong: list[FieldError] = field(default_factory=list)

    async def refusal(self, model: ModelTrainedData, specs: Sequence[LoopSpec]) -> str | None:
        """Why the test refuses this version."""
        return self.refused.get(model.version)

    async def check(self, spec: LoopSpec) -> list[FieldError]:
        """The errors that the test has set."""
        return self.wrong


class SteppingClock:
    """A clock that a test sets; each reading is a millisecond later."""

    def __init__(self) -> None:
        self.now = EPOCH

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


class HandlerHarness:
    """The handlers over a real store, each call in a unit of work of its own."""

    def __init__(self, database: Database, quota: Quota | None = None) -> None:
        self.unit, self.reader = RegistryUnitOfWork(database), SqlLoopReader(database)
        self.checks, self.clock = StubChecks(), SteppingClock()
        self.events = EventHandlers(self.unit.store, self.checks, self.clock)
        self.commands = CommandHandlers(self.unit.store, self.checks, self.clock, quota or Quota())
        self.decisions: list[Decided] = []

    async def handle(self, *events: Event) -> list[str]:
        """Handle events; the types of what was decided, without `registry.` and `.v1`."""
        before = len(self.decisions)
        for event in events:
            handle = getattr(self.events, "on_" + event.type.split(".")[1])
            await self._in_unit(lambda: handle(event, Position(event.topic.name)))  # noqa: B023 - awaited at once
        return [d.type.split(".")[1] for d in self.decisions[before:]]

    async def command(self, command: str, *arguments: Any) -> list[str]:
        """Run a command; the types of what was decided."""
        before = len(self.decisions)
        await self._in_unit(lambda: getattr(self.commands, command)(*arguments, actor=ANONYMOUS))
        return [d.type.split(".")[1] for d in self.decisions[before:]]

    async def loop(self) -> Any:
        """The market loop as it is."""
        return await self.reader.loop("market")

    async def _in_unit(self, work: Callable[[], Awaitable[list[Event]]]) -> None:
        async with self.unit:
            events = await work()
            await self.unit.record(events, {})
        self.decisions += [e for e in events if isinstance(e, Decided)]


@asynccontextmanager
async def handler_harness(folder: Path) -> AsyncIterator[HandlerHarness]:
    """A harness on a fresh database, with the market loop applied."""
    async with Database(database_url(folder), MIGRATIONS, schema="registry") as database:
        made = HandlerHarness(database)
        await made.command("apply", spec())
        yield made


@asynccontextmanager
async def registry(broker: MemoryBroker, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The whole service over a memory broker: an HTTP client, once it is ready."""
    async with registry_on(
        broker.engine, RegistrySettings(data=folder, port=0, database_url=database_url(folder))
    ) as client:
        yield client


@asynccontextmanager
async def registry_on(connect: EngineFactory, settings: RegistrySettings) -> AsyncIterator[httpx.AsyncClient]:
    """The whole service over any engine: an HTTP client, once it is ready."""
    service = build_registry(settings, connect)
    stop = asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    try:
        await until(lambda: running.done() or service.not_ready() is None, 30.0)
        if running.done():
            running.result()
        transport = httpx.ASGITransport(app=http_app(service))
        yaml = {"content-type": "application/yaml"}
        base = "http://localhost/v1/loops"
        async with httpx.AsyncClient(transport=transport, base_url=base, headers=yaml) as client:
            yield client
    finally:
        stop.set()
        await asyncio.wait([running])
    running.result()


async def until(what: Callable[[], T], deadline_s: float = 10.0) -> T:
    """Wait for a condition; fails when it does not come."""
    end = time.monotonic() + deadline_s
    while not (got := what()):
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.01)
    return got
