"""A service that always has requests publishes as fast as it takes in."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from tests.engines.buses import KafkaBus, computed, received
from tests.tasks import cancel

from everloop_schemas.feature import FeaturesComputed
from everloop_shared.messaging.kafka import producer_connection
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.kafka.producer_connection import LOOK_EVERY, ProducerConnection
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import EVENT_HEADERS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
RECORDS = 2_000
LOOK_S, REQUESTS_S = 0.0001, 0.02
"""What the records between two looks at the clock take, and the requests of one turn."""


@pytest.mark.parametrize("requests_s", [0.0, REQUESTS_S])
async def test_records_leave_at_a_quarter_of_the_time_that_requests_take(
    requests_s: float, kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, turns = 0.0, 0

    def perf_counter() -> float:
        nonlocal now
        now += LOOK_S
        return now

    async def answer_requests() -> None:
        nonlocal now, turns
        while True:
            now, turns = now + requests_s, turns + 1
            await asyncio.sleep(0)

    settings = kafka_bus.settings
    await ensure_topics(settings, [FeaturesComputed.topic])
    record = (FeaturesComputed.topic.name, 0, b"key", computed(received("one")).encode())
    connection = ProducerConnection(client_settings(settings, "feature"), settings.delivery_timeout_s)
    await connection.start()
    await asyncio.wait(await connection.send(settings.topic_prefix, [record], EVENT_HEADERS))  # knows the topic
    monkeypatch.setattr(producer_connection, "time", SimpleNamespace(perf_counter=perf_counter))
    requests = asyncio.create_task(answer_requests())
    try:
        acks = await connection.send(settings.topic_prefix, [record] * RECORDS, EVENT_HEADERS)
        turns_meanwhile = turns
        await asyncio.wait(acks)
    finally:
        await cancel(requests)
        await connection.close()

    looks = RECORDS / LOOK_EVERY
    slice_looks = max(0.0002, requests_s / 4) / LOOK_S
    assert looks / (slice_looks + 2) <= turns_meanwhile <= looks / slice_looks + 2
