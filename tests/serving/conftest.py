"""A serving service over the memory engine, with models to serve and somebody at the door."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http_apps import http_app

from everloop_models import OnlineModel, build, save
from everloop_models.store import ArtifactStore
from everloop_schemas.envelope import Event, at
from everloop_schemas.feature import (
    EntityState,
    EntityStateData,
    FeaturesComputed,
    FeaturesComputedData,
    OutcomeObserved,
    OutcomeObservedData,
)
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE, LiveVersion, LoopState, LoopStateData
from everloop_schemas.serving import ObservationReceived, PredictionMade, VersionState
from everloop_serving.app import build as build_service
from everloop_serving.settings import ServingSettings
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import EngineFactory
from everloop_shared.service import Service

SPEC: dict[str, Any] = {
    "loop": "market",
    "task": "binary",
    "schema": {"price": {"type": "number"}, "demand": {"type": "number"}},
    "features": [{"fields": "all"}, {"name": "price_mean", "mean": "price", "over": "3 events"}],
}


class World:
    """The bus, an artifact store, and serving between them; `start` may be called again after `stop`."""

    def __init__(self, folder: Path) -> None:
        self.broker = MemoryBroker()
        self.folder = folder
        self.store = ArtifactStore((folder / "artifacts").as_uri())
        self.client = httpx.AsyncClient()
        self._stop: asyncio.Event | None = None
        self._running: asyncio.Task[None] | None = None
        self._sequence = 0

    async def start(self, connect: EngineFactory | None = None, ready: bool = True, **settings: Any) -> Service:
        """Start serving; with `ready`, return when it says so."""
        defaults = {"data": self.folder, "port": 0, "instance": "one", "load_retry_s": 0.01, "labels_save_s": 0.05}
        chosen = ServingSettings.model_validate(defaults | settings)
        service = build_service(chosen, connect or self.broker.engine)
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(service.run(self._stop))
        transport = httpx.ASGITransport(http_app(service), raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        if ready:
            await self.until(lambda: service.not_ready() is None)
        return service

    async def stop(self) -> None:
        """Stop serving as SIGTERM would."""
        if self._stop and self._running:
            self._stop.set()
            await self._running
            await self.client.aclose()
        self._stop = self._running = None

    async def put(self, *events: Event) -> None:
        """Put events on the bus."""
        for event in events:
            await self.broker.append(event.topic.name, event.key(), event.encode())

    async def until(self, condition: Callable[[], Any], deadline_s: float = 10.0) -> Any:
        """What the condition gives once it is true; fails at the deadline."""
        end = asyncio.get_running_loop().time() + deadline_s
        while not (seen := condition()):
            if self._running and self._running.done():
                self._running.result()
            assert asyncio.get_running_loop().time() < end, "the condition never came true"
            await asyncio.sleep(0.005)
        return seen

    def made(self) -> list[PredictionMade]:
        """Every prediction on the topic."""
        return [e for e in self.broker.events(PredictionMade.topic) if isinstance(e, PredictionMade)]

    def brought(self) -> list[Event]:
        """Every observation that REST brought."""
        return self.broker.events(ObservationReceived.topic)

    def reports(self) -> list[tuple[str, str]]:
        """What was said of versions: (version, state)."""
        events = self.broker.events(VersionState.topic)
        return [(e.data.version, e.data.state) for e in events if isinstance(e, VersionState)]

    def version(self, name: str, model: OnlineModel | None = None) -> LiveVersion:
        """A trained version in the store."""
        artifact = save(model or trained())
        uri = self.store.put(self.store.name("market", name, artifact.sha256), artifact.data)
        return LiveVersion(version=name, uri=uri, sha256=artifact.sha256, size=artifact.size, since=at(0))

    def state(self, champion: LiveVersion | None = None, *, revision: int = 1, **data: Any) -> LoopState:
        """The next state of the loop `market`."""
        self._sequence += 1
        body = LoopStateData(
            spec=LoopSpec.model_validate(SPEC | data.pop("spec", {})),
            champion=champion or LiveVersion(version=BASELINE, since=at(0)),
            sequence=self._sequence,
            **data,
        )
        return LoopState(
            id=f"state-{self._sequence}", time=at(0), subject="0", loop="market", revision=revision, data=body
        )

    def features(
        self, prediction_id: str, price: float = 0.5, revision: int = 1, fingerprint: str | None = None
    ) -> FeaturesComputed:
        """A vector from the stream."""
        features = {"price": price, "demand": 0.5, "price_mean": price}
        return FeaturesComputed(
            id=f"features-{prediction_id}",
            time=at(1000),
            subject="default",
            loop="market",
            revision=revision,
            data=FeaturesComputedData(
                prediction_id=prediction_id,
                entity="default",
                features=features,
                received=at(1000),
                fingerprint=fingerprint,
            ),
        )

    def outcome(self, prediction_id: str, label: bool | None, correction: int = 0) -> OutcomeObserved:
        """A prediction with its truth."""
        return OutcomeObserved(
            id=f"outcome-{prediction_id}-{correction}",
            time=at(1000),
            subject=prediction_id,
            loop="market",
            data=OutcomeObservedData(
                prediction_id=prediction_id,
                entity="default",
                label=label,
                correction=correction,
                labelled=at(1000),
                predicted=at(1000),
                features={},
                prediction=False,
                version=BASELINE,
                role="baseline",
                propensity=1.0,
            ),
        )

    def entity_state(self, entity: str, applied: int, prices: list[float]) -> EntityState:
        """The windows of an entity as feature has them."""
        data = EntityStateData(entity=entity, applied=applied, state={"ring": {"price": prices}})
        return EntityState(id=f"{entity}-{applied}", time=at(1000), subject=entity, loop="market", data=data)

    async def ask(self, prediction_id: str | None = None, price: float = 0.5, **body: Any) -> httpx.Response:
        """A prediction by REST."""
        whole = {"data": {"price": price, "demand": 0.5}} | ({"id": prediction_id} if prediction_id else {}) | body
        return await self.client.post("/v1/loops/market/predict", json=whole)


def trained(seed: int = 1) -> OnlineModel:
    """A logistic model that says true for high prices."""
    spec = LoopSpec.model_validate(SPEC)
    model, rng = build(spec.models[0], spec), random.Random(seed)
    for _ in range(300):
        price = rng.random()
        model.learn({"price": price, "demand": rng.random(), "price_mean": price}, price > 0.5)
    return model


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world in which serving has not been started yet."""
    built = World(tmp_path)
    yield built
    await built.stop()
