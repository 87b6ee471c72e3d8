"""What the registry's tests share: the market loop, handlers over a real store, the service, and common steps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from tests.builders.events import (
    MODEL,
    challenge_updated,
    drift_detected,
    evaluation_updated,
    model_trained,
    run_requested,
    version_state,
)
from tests.builders.loops import NOW, loop_spec
from tests.builders.running import http_client, run_until_exit, until
from tests.databases import database_url

from everloop_models import build, save
from everloop_models.store import ArtifactStore
from everloop_registry.adapters.decision_store import RegistryUnitOfWork
from everloop_registry.adapters.loop_reader import SqlLoopReader
from everloop_registry.app import build as build_registry
from everloop_registry.handlers import CommandHandlers, EventHandlers, Quota
from everloop_registry.handlers.run_log import RunLog
from everloop_registry.settings import RegistrySettings
from everloop_registry.tables import MIGRATIONS
from everloop_schemas.envelope import Event
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import Decided
from everloop_schemas.training import (
    ModelTrained,
    ModelTrainedData,
)
from everloop_shared.commands import ANONYMOUS, Actor
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
YAML = {"content-type": "application/yaml"}
WORSE, BETTER = [1.0, 1.0, 0.0], [0.0, 1.0, 0.0]
"""Losses of two lines of which one is right a third more often."""
LOST, WON = [1.0, 1.0] * 100, [0.0, 1.0] * 100
"""Losses of two lines on 200 outcomes of which the second passes the gate."""


def market_spec(**changes: Any) -> LoopSpec:
    """The market loop."""
    fields = {"price": {"type": "number"}, "demand": {"type": "number"}}
    rollout = {"shadow": 100, "canary": [0.1, 0.5], "step": 100}
    return loop_spec(**{"schema": fields, "rollout": rollout, **changes})


def store_model(name: str, offset: int, folder: Path, reason: str = "refresh") -> ModelTrained:
    """A version of a line with a real artifact."""
    model = build(MODEL, market_spec())
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
        self.events = EventHandlers(self.unit.store, self.checks, self.clock, RunLog(self.unit.tracking))
        self.commands = CommandHandlers(self.unit.store, self.checks, self.clock, quota or Quota())
        self.decisions: list[Decided] = []

    async def handle(self, *events: Event) -> list[str]:
        """Handle events; the types of what was decided, without `registry.` and `.v1`."""
        before = len(self.decisions)
        for event in events:
            handle = getattr(self.events, "on_" + event.type.split(".")[1])
            await self.in_unit(lambda: handle(event, Position(event.topic.name)))  # noqa: B023 - awaited at once
        return [d.type.split(".")[1] for d in self.decisions[before:]]

    async def command(self, command: str, *arguments: Any, actor: Actor = ANONYMOUS) -> list[str]:
        """Run a command; the types of what was decided."""
        before = len(self.decisions)
        await self.in_unit(lambda: getattr(self.commands, command)(*arguments, actor=actor))
        return [d.type.split(".")[1] for d in self.decisions[before:]]

    async def end_expired(self) -> list[str]:
        """Have the market loop's approval looked at, as the background job does; the types of what was decided."""
        before = len(self.decisions)
        await self.in_unit(lambda: self.commands.end_expired_approval("market"))
        return [d.type.split(".")[1] for d in self.decisions[before:]]

    async def loop(self) -> Any:
        """The market loop as it is."""
        return await self.reader.loop("market")

    async def in_unit(self, work: Callable[[], Awaitable[Sequence[Event]]]) -> None:
        """Do it in a unit of work, and remember what was decided."""
        async with self.unit:
            events = await work()
            await self.unit.record(events, {})
        self.decisions += [e for e in events if isinstance(e, Decided)]


@asynccontextmanager
async def handler_harness(folder: Path) -> AsyncIterator[HandlerHarness]:
    """A harness on a fresh database, with the market loop applied."""
    async with Database(database_url(folder), MIGRATIONS, schema="registry") as database:
        made = HandlerHarness(database)
        await made.command("apply", market_spec())
        yield made


@asynccontextmanager
async def registry(broker: MemoryBroker, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The whole service over a memory broker: an HTTP client, once it is ready."""
    settings = RegistrySettings(data=folder, port=0, database_url=database_url(folder), settle_s=0.0)
    async with registry_on(broker.engine, settings) as client:
        yield client


@asynccontextmanager
async def registry_on(connect: EngineFactory, settings: RegistrySettings) -> AsyncIterator[httpx.AsyncClient]:
    """The whole service over any engine: an HTTP client, once it is ready."""
    service = build_registry(settings, connect)
    async with run_until_exit(service), http_client(service, "/v1/loops", headers=YAML) as client:
        yield client


def lines(start: int, n: int, **losses: list[float]) -> Event:
    """Losses of lines, given as a pattern: `a` stands for line `a-0`, `zero` for the baseline."""
    names = {"zero": "0"}
    return challenge_updated(start, {names.get(k, f"{k}-0"): (v * n)[:n] for k, v in losses.items()})


async def champion_is(harness: HandlerHarness, name: str, until: int = 200) -> None:
    """A line wins over the baseline on the first 200 outcomes."""
    await harness.handle(
        run_requested(name),
        challenge_updated(0, {"0": WORSE * 66 + [1.0, 1.0], name: BETTER * 66 + [0.0, 1.0]}),
        evaluation_updated(0, {"0": [0.5] * until}),
        model_trained(name, until, "gate"),
    )
    assert (await harness.loop()).champion.version == f"{name}@{until}"


async def rollout_of(harness: HandlerHarness, name: str = "b-0") -> None:
    """Another line wins over champion a-0 on outcomes 200 to 400 and goes into shadow."""
    await harness.handle(
        run_requested(name),
        challenge_updated(200, {"a-0": WORSE * 66 + [1.0, 1.0], name: BETTER * 66 + [0.0, 1.0]}),
        evaluation_updated(200, {"a-0@200": WORSE * 66 + [1.0, 1.0]}),
        model_trained(name, 400, "gate"),
    )


def both(start: int, n: int, candidate: str = "b-0@400") -> Event:
    """Logged losses of champion and candidate, alike."""
    return evaluation_updated(start, {"a-0@200": [0.5] * n, candidate: [0.5] * n})


async def apply_file(client: httpx.AsyncClient, text: str = LOOP_FILE, loop: str = "market") -> httpx.Response:
    """Apply a loop file."""
    return await client.put(f"/{loop}", content=text, headers=YAML)


async def publish(broker: MemoryBroker, *events: Event) -> None:
    """Publish events of other services."""
    for event in events:
        await broker.append(event.topic.name, event.key(), event.encode())


def decided_types(broker: MemoryBroker) -> list[str]:
    """The types of the decisions on the topic, in order."""
    return [e.type.split(".")[1] for e in broker.events(Decided.topic)]


def count_handled(broker: MemoryBroker, topic: str) -> int:
    """How many of the market loop's records of a topic the registry has handled."""
    return broker.committed.get(("registry", topic, broker.partition_for(b"market")), 0)


async def run_to_canary(broker: MemoryBroker, folder: Path) -> None:
    """Run a loop up to its second model: first champion, an alarm, a challenger in canary."""
    await publish(broker, run_requested("a-0"), challenge_updated(0, {"0": LOST, "a-0": WON}))
    await until(lambda: decided_types(broker)[-1:] == ["rollout_changed"])
    await publish(
        broker, store_model("a-0", 200, folder / "artifacts", "gate"), evaluation_updated(0, {"0": [0.5] * 200})
    )
    await until(lambda: decided_types(broker)[-1:] == ["model_promoted"])
    await publish(broker, drift_detected(199, 149), version_state("a-0@200"))
    await until(lambda: count_handled(broker, "monitoring.drift_detected.v1") == 1)
    await publish(broker, challenge_updated(200, {"a-0": LOST, "b-0": WON}))
    await until(lambda: decided_types(broker)[-1:] == ["rollout_changed"])
    await publish(broker, store_model("b-0", 400, folder / "artifacts", "gate"))
    await until(lambda: decided_types(broker)[-2:] == ["version_registered", "rollout_changed"])
    await publish(broker, version_state("b-0@400"))
    await until(lambda: count_handled(broker, "serving.version_state.v1") == 2)
    await publish(broker, evaluation_updated(200, {"a-0@200": [0.5] * 50}))
    await until(lambda: len(decided_types(broker)) == 10)


async def dump(folder: Path) -> str:
    """Decisions and fold, in the database under a folder."""
    return await dump_of(database_url(folder))


async def dump_of(url: str) -> str:
    """Decisions and fold of a database."""
    async with Database(url, MIGRATIONS, schema="registry") as database:
        return await SqlLoopReader(database).dump()
