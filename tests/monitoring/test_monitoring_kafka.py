"""Monitoring on real Kafka: counts stay exact over restarts and repetition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient
from tests.builders.events import observation, prediction_made
from tests.builders.loops import LOOP
from tests.builders.running import http_client
from tests.databases import database_url
from tests.monitoring.monitoring_service import outcome, state

from everloop_monitoring.app import build
from everloop_monitoring.settings import MonitoringSettings
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import Publisher, connected

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@asynccontextmanager
async def running(settings: MonitoringSettings) -> AsyncIterator[tuple[Publisher, AsyncClient]]:
    connect = kafka_factory(settings)
    service = build(settings, connect)
    [consumer], [database] = service.consumers, service.resources
    async with database, http_client(service) as http:
        await consumer.start()
        try:
            async with connected(connect("ingest")) as publisher:
                yield publisher, http
        finally:
            await consumer.stop()


async def counts(http: AsyncClient, expected: tuple[int, int, int], deadline_s: float = 40.0) -> Any:
    """The counts once they are as expected, or as they are at the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        answer = await http.get(f"/v1/loops/{LOOP}/status")
        s = answer.json()
        found = tuple(s.get(k) for k in ("events", "predictions", "outcomes"))
        if found == expected or time.monotonic() > end:
            return found
        await asyncio.sleep(0.05)


def settings_of(kafka: Any, data: Path) -> MonitoringSettings:
    return MonitoringSettings(
        data=data,
        database_url=database_url(data),
        kafka_bootstrap=kafka.bootstrap,
        topic_prefix=f"{uuid4().hex[:8]}.",
        settle_s=0.02,
    )


async def test_counts_are_exact_over_repetition_and_restart(kafka: Any, tmp_path: Path, databases: object) -> None:
    settings = settings_of(kafka, tmp_path)
    first = [make(f"e{i}") for i in range(400) for make in (observation, prediction_made)]
    async with running(settings) as (publisher, http):
        await publisher.publish([state(), *first, *(outcome(f"e{i}", True) for i in range(400))])
        before = await counts(http, (400, 400, 400))

    async with running(settings) as (publisher, http):
        await publisher.publish(
            [*first, outcome("e1", False, correction=1), observation("new"), prediction_made("new")]
        )
        after = await counts(http, (401, 401, 400))

    assert before == (400, 400, 400)
    assert after == (401, 401, 400)
