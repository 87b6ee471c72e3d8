"""The topics of an installation on the memory bus, read by HTTP like a Kafka consumer reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from everloop.errors import EverloopUnreachable
from everloop.local.discovery import Installation
from everloop.local.errors import InstallationNotFound
from everloop.local.ports import free_port
from everloop.memory_bus import app
from everloop.memory_bus.api import router
from everloop.memory_bus.broker import BoundedBroker
from everloop.memory_bus.settings import environment_of
from everloop.topics import HttpTopicReader, reader
from everloop_schemas.envelope import Event, utc_time
from everloop_schemas.feature import LabelJoined, LabelJoinedData
from everloop_shared.http import HttpEndpoint
from everloop_shared.service import Service
from everloop_shared.settings import Settings

TOPIC = LabelJoined.topic.name


def _joined(name: str) -> Event:
    data = LabelJoinedData(prediction_id=name, entity=name, label=True)
    return LabelJoined(id=name, loop="l", subject=name, time=utc_time(0), data=data)


@pytest.fixture
def broker() -> BoundedBroker:
    return BoundedBroker(partitions=4, max_log_bytes=1_000_000)


@pytest.fixture
async def url(broker: BoundedBroker, tmp_path: Path) -> AsyncIterator[str]:
    """The served endpoint."""
    port, stop = free_port(), asyncio.Event()
    settings = Settings(data=tmp_path, port=port)
    service = Service("topics", settings, [HttpEndpoint("topics", settings, router(broker))])
    running = asyncio.create_task(app.run([service], stop))
    yield f"http://127.0.0.1:{port}"
    stop.set()
    await running


async def _up(url: str) -> None:
    async with asyncio.timeout(10), httpx.AsyncClient(trust_env=False) as http:
        while True:
            try:
                await http.get(f"{url}/livez")
                return
            except httpx.TransportError:
                await asyncio.sleep(0.01)


async def test_a_reader_reads_what_was_there_and_then_what_comes(broker: BoundedBroker, url: str) -> None:
    await _up(url)
    engine = broker.engine("anybody")
    await engine.publish([_joined("a"), _joined("b")])

    async with HttpTopicReader(url, [TOPIC]) as topics:
        behind = await topics.behind()
        first = await topics.read()
        waiting = asyncio.create_task(topics.read())
        await engine.publish([_joined("c")])
        second = await waiting
        caught_up = not await topics.behind()

    assert behind
    assert caught_up
    assert [line.value for line in first + second] == [_joined(name).encode() for name in "abc"]
    assert {line.topic for line in first} == {TOPIC}


async def test_a_topic_that_is_none_is_refused_by_name(url: str) -> None:
    await _up(url)

    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        refused = await http.get("/v1/records", params={"topic": "nonsense.v1"})
        counts = (await http.get("/v1/topics")).json()

    assert refused.status_code == 404
    assert "nonsense.v1" in refused.json()["detail"]
    assert counts[TOPIC] == 0


async def test_an_installation_that_has_ended_is_unreachable() -> None:
    with pytest.raises(EverloopUnreachable, match="topics"):
        async with HttpTopicReader(f"http://127.0.0.1:{free_port()}", [TOPIC]):
            pass


def test_an_installation_on_the_memory_bus_has_no_kafka_and_names_the_address_of_its_topics(tmp_path: Path) -> None:
    memory = Installation(tmp_path, {"topics": "http://127.0.0.1:1"})

    assert isinstance(reader(memory, [TOPIC], "test"), HttpTopicReader)
    with pytest.raises(InstallationNotFound, match="memory bus"):
        memory.kafka()
    assert Installation(tmp_path, {"topics": "http://127.0.0.1:1"}, bootstrap="broker:9092").topics is None


def test_no_store_of_the_users_own_is_touched(tmp_path: Path) -> None:
    own = {
        "EVERLOOP_REGISTRY_DATABASE_URL": "postgresql+psycopg://production/registry",
        "EVERLOOP_TRAINING_ARTIFACTS": "s3://production",
        "EVERLOOP_FEATURE_PARTITIONS": "12",
        "EVERLOOP_SERVING_HOST": "0.0.0.0",
        "EVERLOOP_LOG_LEVEL": "WARNING",
    }

    environment = environment_of(own, tmp_path, {"ingest": 8001}, partitions=4)

    assert environment == {
        "EVERLOOP_DATA": str(tmp_path),
        "EVERLOOP_HOST": "127.0.0.1",
        "EVERLOOP_PARTITIONS": "4",
        "EVERLOOP_INGEST_PORT": "8001",
        "EVERLOOP_MONITORING_INGEST_URL": "http://127.0.0.1:8001",
        "EVERLOOP_LOG_LEVEL": "WARNING",
    }
