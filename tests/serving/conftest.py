"""A running serving service on the memory broker, with models in an artifact store."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders import events
from tests.builders.loops import live_version, loop_spec, loop_state
from tests.builders.running import http_client

from everloop_models import OnlineModel, build, save
from everloop_models.store import ArtifactStore
from everloop_schemas.envelope import Event
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved
from everloop_schemas.registry import BASELINE, LiveVersion, LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade, VersionState
from everloop_serving.app import build as build_service
from everloop_serving.settings import ServingSettings
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import EngineFactory
from everloop_shared.service import Service

SPEC: dict[str, Any] = {
    "schema": {"price": {"type": "number"}, "demand": {"type": "number"}},
    "features": [{"fields": "all"}, {"name": "price_mean", "mean": "price", "over": "3 events"}],
}


class RunningServing:
    """A broker, an artifact store, and serving between them; `start` may be called again after `stop`."""

    def __init__(self, folder: Path) -> None:
        self.broker = MemoryBroker()
        self.folder = folder
        self.store = ArtifactStore((folder / "artifacts").as_uri())
        self.client = httpx.AsyncClient()
        self._stop: asyncio.Event | None = None
        self._running: asyncio.Task[None] | None = None
        self._sequence = 0

    async def start(self, connect: EngineFactory | None = None, ready: bool = True, **settings: Any) -> Service:
        """Start serving; with `ready`, wait until it is."""
        defaults = {"data": self.folder, "port": 0, "instance": "one", "load_retry_s": 0.01, "labels_save_s": 0.05}
        chosen = ServingSettings.model_validate(defaults | settings)
        service = build_service(chosen, connect or self.broker.engine)
        self._stop = asyncio.Event()
        self._running = asyncio.create_task(service.run(self._stop))
        self.client = http_client(service, raises=False)
        if ready:
            await self.until(lambda: service.not_ready() is None)
        return service

    async def stop(self) -> None:
        """Stop serving as SIGTERM does."""
        if self._stop and self._running:
            self._stop.set()
            await self._running
            await self.client.aclose()
        self._stop = self._running = None

    async def publish(self, *published: Event) -> None:
        """Publish events, for serving to consume."""
        for event in published:
            await self.broker.append(event.topic.name, event.key(), event.encode())

    async def until(self, condition: Callable[[], Any], deadline_s: float = 10.0) -> Any:
        """The value of the condition once it is true; fails at the deadline, or with serving."""
        end = asyncio.get_running_loop().time() + deadline_s
        while not (value := condition()):
            if self._running and self._running.done():
                self._running.result()
            assert asyncio.get_running_loop().time() < end, "the condition did not become true in time"
            await asyncio.sleep(0.005)
        return value

    def predictions(self) -> list[PredictionMade]:
        """Every prediction on the topic."""
        return [e for e in self.broker.events(PredictionMade.topic) if isinstance(e, PredictionMade)]

    def observations(self) -> list[Event]:
        """Every observation of a REST prediction on the topic."""
        return self.broker.events(ObservationReceived.topic)

    def version_states(self) -> list[tuple[str, str]]:
        """Every report on a version: (version, state)."""
        reports = self.broker.events(VersionState.topic)
        return [(e.data.version, e.data.state) for e in reports if isinstance(e, VersionState)]

    def version(self, name: str, model: OnlineModel | None = None) -> LiveVersion:
        """A trained version in the store."""
        artifact = save(model or trained())
        uri = self.store.put(self.store.name("market", name, artifact.sha256), artifact.data)
        return live_version(name, uri=uri, sha256=artifact.sha256, size=artifact.size)

    def state(self, champion: LiveVersion | None = None, *, revision: int = 1, **data: Any) -> LoopState:
        """The next state of the loop `market`."""
        self._sequence += 1
        spec = loop_spec(**(SPEC | data.pop("spec", {})))
        chosen = champion or live_version(BASELINE)
        return loop_state(spec, champion=chosen, revision=revision, sequence=self._sequence, **data)

    def features(
        self, prediction_id: str, price: float = 0.5, revision: int = 1, fingerprint: str | None = None
    ) -> FeaturesComputed:
        """A vector from feature."""
        features = {"price": price, "demand": 0.5, "price_mean": price}
        return events.features_computed(prediction_id, features, revision=revision, fingerprint=fingerprint)

    def outcome(self, prediction_id: str, label: bool | None, correction: int = 0) -> OutcomeObserved:
        """A prediction with its label."""
        return events.outcome_observed(prediction_id, label, correction=correction)

    def entity_state(self, entity: str, applied: int, prices: list[float]) -> EntityState:
        """The windows of an entity as feature has them."""
        return events.entity_state(entity, applied, {"ring": {"price": prices}})

    async def predict(self, prediction_id: str | None = None, price: float = 0.5, **body: Any) -> httpx.Response:
        """A prediction by REST."""
        whole = {"data": {"price": price, "demand": 0.5}} | ({"id": prediction_id} if prediction_id else {}) | body
        return await self.client.post("/v1/loops/market/predict", json=whole)


def trained(seed: int = 1) -> OnlineModel:
    """A logistic model that predicts true for high prices."""
    spec, rng = loop_spec(**SPEC), random.Random(seed)
    model = build(spec.models[0], spec)
    for _ in range(300):
        price = rng.random()
        model.learn({"price": price, "demand": rng.random(), "price_mean": price}, price > 0.5)
    return model


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[RunningServing]:
    """Serving that has not been started yet."""
    running = RunningServing(tmp_path)
    yield running
    await running.stop()
