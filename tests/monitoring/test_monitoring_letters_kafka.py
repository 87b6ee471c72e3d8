"""Dead letters on real Kafka: what lies broken on a topic is listed, repaired and processed once."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from httpx import AsyncClient
from tests.builders.events import prediction_made
from tests.builders.loops import LOOP
from tests.databases import database_url
from tests.monitoring.monitoring_service import state
from tests.monitoring.test_monitoring_kafka import running

from everloop_monitoring.settings import MonitoringSettings
from everloop_schemas.serving import PredictionMade

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@asynccontextmanager
async def producer(bootstrap: str) -> AsyncIterator[Any]:
    """A producer of somebody else's."""
    made = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def listed(http: AsyncClient, count: int) -> list[dict[str, Any]]:
    """The list once it has so many, or as it is at the deadline."""
    end = time.monotonic() + 40
    while True:
        found: list[dict[str, Any]] = (await http.get("/v1/dead-letters")).json()["dead_letters"]
        if len(found) >= count or time.monotonic() > end:
            return found
        await asyncio.sleep(0.05)


async def predictions(http: AsyncClient, count: int) -> int:
    """How many are counted, once they are `count`, or at the deadline."""
    end = time.monotonic() + 40
    while True:
        found = int((await http.get(f"/v1/loops/{LOOP}/status")).json().get("predictions", 0))
        if found >= count or time.monotonic() > end:
            return found
        await asyncio.sleep(0.05)


async def test_a_broken_record_is_repaired_and_counted_once_and_a_restart_remembers_it(
    kafka: Any, tmp_path: Path, databases: object
) -> None:
    settings = MonitoringSettings(
        data=tmp_path,
        database_url=database_url(tmp_path),
        kafka_bootstrap=kafka.bootstrap,
        topic_prefix=f"{uuid4().hex[:8]}.",
        settle_s=0.02,
    )
    made, topic = prediction_made("p1"), f"{settings.topic_prefix}{PredictionMade.topic.name}"
    broken = made.encode().replace(b'"time":"', b'"time":"not ')
    async with running(settings) as (publisher, http), producer(kafka.bootstrap) as foreign:
        await publisher.publish([state(), prediction_made("p0")])
        await foreign.send_and_wait(topic, broken, key=made.key())
        [letter] = await listed(http, 1)
        value = await http.get(f"/v1/dead-letters/{letter['id']}/value")
        repaired = {"value": b64encode(value.content.replace(b"not ", b"")).decode()}
        answers = [await http.post(f"/v1/dead-letters/{letter['id']}/send", json=repaired) for _ in (1, 2)]
        before = await predictions(http, 2)

    async with running(settings) as (publisher, http):
        await publisher.publish([prediction_made("p2")])
        after, [remembered] = await predictions(http, 3), await listed(http, 1)

    assert (letter["service"], letter["topic"], letter["event"]) == ("monitoring", PredictionMade.topic.name, made.id)
    assert value.content == broken
    assert b64decode(repaired["value"]) == made.encode()
    assert [answer.json()["sent"] for answer in answers] == [True, False]
    assert (before, after) == (2, 3)
    assert [sent["event"] for sent in remembered["sent"]] == [made.id]
