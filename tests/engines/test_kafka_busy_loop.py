"""A service that always has requests publishes as fast as it takes in."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.engines.buses import KafkaBus, computed, received
from tests.tasks import cancel

from everloop_schemas.feature import FeaturesComputed
from everloop_shared.messaging.kafka import producer_connection
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.kafka.producer_connection import ProducerConnection
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import EVENT_HEADERS

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
RECORDS = 2_000


async def turns_to_send(connection: ProducerConnection, prefix: str) -> int:
    """The turns of 20 ms that requests take while so many records are handed to the sender."""
    record = (FeaturesComputed.topic.name, 0, b"key", computed(received("one")).encode())
    turns = 0

    async def answer_requests() -> None:
        nonlocal turns
        while True:
            until = time.perf_counter() + 0.02
            while time.perf_counter() < until:
                pass
            turns += 1
            await asyncio.sleep(0)

    requests = asyncio.create_task(answer_requests())
    try:
        acks = await connection.send(prefix, [record] * RECORDS, EVENT_HEADERS)
    finally:
        await cancel(requests)
    await asyncio.wait(acks)
    return turns


async def test_records_leave_at_a_share_of_the_time_that_requests_take(
    kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_bus.settings
    await ensure_topics(settings, [FeaturesComputed.topic])
    connection = ProducerConnection(client_settings(settings, "feature"), settings.delivery_timeout_s)
    await connection.start()
    try:
        with_share = await turns_to_send(connection, settings.topic_prefix)
        monkeypatch.setattr(producer_connection, "SHARE", 0.0)
        with_fixed_slices = await turns_to_send(connection, settings.topic_prefix)
    finally:
        await connection.close()

    assert with_share < with_fixed_slices / 2
