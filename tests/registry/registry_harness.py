"""What the registry's tests share: a loop file, a stored version, the handlers over a store, and the service itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from tests.builders.events import model_trained
from tests.builders.loops import NOW, loop_spec
from tests.builders.running import http_client, run_until_exit
from tests.databases import database_url

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
from everloop_schemas.registry import Decided
from everloop_schemas.training import ModelTrained, ModelTrainedData
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
MODEL = ModelSpec(preset="logistic")


def spec(**changes: Any) -> LoopSpec:
    """The market loop."""
    fields = {"price": {"type": "number"}, "demand": {"type": "number"}}
    rollout = {"shadow": 100, "canary": [0.1, 0.5], "step": 100}
    return loop_spec(**{"schema": fields, "rollout": rollout, **changes})


def stored(name: str, offset: int, folder: Path, reason: str = "refresh") -> ModelTrained:
    """A version of a line with a real artifact."""
    model = build(MODEL, spec())
    for i in range(10):
        model.learn({"price": float(i), "demand": 1.0}, i > 5)
    artifact = save(model)
    store = ArtifactStore(folder.as_uri())
    uri = store.put(store.name("market", f"{name}@{offset}", artifact.sha256), artifact.data)
    changes = {"uri": uri, "sha256": artifact.sha256, "size": artifact.size, "signature": model.signature}
    return model_trained(name, offset, reason, **changes)


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
        self.now = NOW

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
    yaml = {"content-type": "application/yaml"}
    async with run_until_exit(service), http_client(service, "/v1/loops", headers=yaml) as client:
        yield client
