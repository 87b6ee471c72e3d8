"""The six services in one process, on one memory broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from tests.http_apps import http_app

import everloop_feature.app
import everloop_ingest.app
import everloop_monitoring.app
import everloop_registry.app
import everloop_serving.app
import everloop_training.app
from everloop_feature.settings import FeatureSettings
from everloop_ingest.settings import IngestSettings
from everloop_monitoring.settings import MonitoringSettings
from everloop_registry.settings import RegistrySettings
from everloop_serving.settings import ServingSettings
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.service import Service
from everloop_training.settings import TrainingSettings
from everloop_training.worker.inline import InlineWorker


def installation(broker: MemoryBroker, folder: Path) -> dict[str, Service]:
    """The six services on one broker."""
    common: dict[str, Any] = {"data": folder, "port": 0, "instance": "only"}
    connect = broker.engine
    training = everloop_training.app.build(TrainingSettings(**common), connect, InlineWorker.start)
    return {
        "registry": everloop_registry.app.build(RegistrySettings(**common), connect),
        "ingest": everloop_ingest.app.build(IngestSettings(**common), connect),
        "feature": everloop_feature.app.build(FeatureSettings(**common), connect),
        "serving": everloop_serving.app.build(ServingSettings(**common), connect),
        "training": training,
        "monitoring": everloop_monitoring.app.build(MonitoringSettings(**common), connect),
    }


async def ask(services: dict[str, Service], service: str, method: str, path: str, json: Any) -> httpx.Response:
    """One request to a service."""
    transport = httpx.ASGITransport(app=http_app(services[service]))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, path, json=json)
