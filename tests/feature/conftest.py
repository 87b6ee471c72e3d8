"""The feature service over the memory engine: events in, events out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.builders.personal import personal_settings
from tests.builders.running import RunningService, run_consumers

from everloop_feature.app import build
from everloop_feature.settings import FeatureSettings
from everloop_shared.messaging.keyed.expiry import keyed_on
from everloop_shared.messaging.memory import MemoryBroker


@pytest.fixture
async def feature() -> AsyncIterator[RunningService]:
    """A feature service that has started and knows no loop yet."""
    broker = MemoryBroker(partitions=2)
    settings = FeatureSettings(partitions=2, ids_kept=256, max_joins=100, max_entities=100)
    service = build(settings, broker.engine, keyed_on(broker.engine, 2, interval_s=0.02))
    async with run_consumers(service):
        yield RunningService(broker, service)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningService]:
    """A feature service with the keys of personal values, which are in the folder of the test."""
    broker = MemoryBroker(partitions=2)
    settings = FeatureSettings(partitions=2, **personal_settings(tmp_path))
    service = build(settings, broker.engine, keyed_on(broker.engine, 2, interval_s=0.02))
    async with run_consumers(service):
        yield RunningService(broker, service)
