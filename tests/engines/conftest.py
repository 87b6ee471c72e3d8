"""One bus per engine; every test of the behaviour suite runs on each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from tests.engines.buses import BUSES, Bus, FaustBus, KafkaBus, MemoryBus

from everloop.local.kafka import Broker

_source_numbers = count()
ENGINES = [*BUSES, pytest.param("faust", marks=pytest.mark.kafka)]


@pytest.fixture(params=ENGINES)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The kind of engine, and where its broker is; the real one is started outside of any event loop."""
    return request.param, "" if request.param == "memory" else request.getfixturevalue("kafka").bootstrap


@pytest.fixture
async def bus(kind: tuple[str, str], tmp_path: Path) -> AsyncIterator[Bus]:
    """A bus of each kind in turn; another engine adds its kind here and to ENGINES."""
    name, bootstrap = kind
    if name == "memory":
        yield MemoryBus()
        return
    real_bus = KafkaBus(bootstrap, tmp_path) if name == "kafka" else FaustBus(bootstrap, tmp_path)
    yield real_bus
    await real_bus.close()


@pytest.fixture
async def orders(bus: Bus, kind: tuple[str, str]) -> str:
    """A topic that is not Everloop's, with another number of partitions."""
    if kind[0] == "memory":
        return "shop.orders"
    name = f"shop.orders-{next(_source_numbers)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kind[1])
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 3, 1)])
    finally:
        await admin.close()
    return name


@pytest.fixture
async def kafka_bus(kafka: Broker, tmp_path: Path) -> AsyncIterator[KafkaBus]:
    """A bus on the real broker, for what only it does."""
    bus = KafkaBus(kafka.bootstrap, tmp_path)
    yield bus
    await bus.close()


@pytest.fixture
async def faust_bus(kafka: Broker, tmp_path: Path) -> AsyncIterator[FaustBus]:
    """A bus on the real broker, with keyed state on Faust."""
    bus = FaustBus(kafka.bootstrap, tmp_path)
    yield bus
    await bus.close()
