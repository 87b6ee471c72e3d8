"""A service that always has requests publishes as fast as it takes in."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from tests.engines.buses import KafkaBus, computed, received
from tests.tasks import cancel

from everloop_schemas.feature import FeaturesComputed
from everloop_shared.messaging import time_slices
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.messaging.kafka.producer import KafkaPublisher
from everloop_shared.messaging.kafka.producer_connection import LOOK_EVERY, PlacedRecord, ProducerConnection
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import EVENT_HEADERS, Headers, encode

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
RECORDS = 2_000
LOOK_S, REQUESTS_S = 0.0001, 0.02
"""What the records between two looks at the clock take, and the requests of one turn."""


class Requests:
    """A clock that each look advances, and requests that take the time of others, one turn after the other."""

    def __init__(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.turns, self._now, self._seconds = 0, 0.0, seconds
        monkeypatch.setattr(time_slices, "time", SimpleNamespace(perf_counter=self._perf_counter))

    def _perf_counter(self) -> float:
        self._now += LOOK_S
        return self._now

    async def answer(self) -> None:
        while True:
            self._now, self.turns = self._now + self._seconds, self.turns + 1
            await asyncio.sleep(0)


@pytest.mark.parametrize("requests_s", [0.0, REQUESTS_S])
async def test_records_leave_at_a_quarter_of_the_time_that_requests_take(
    requests_s: float, kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_bus.settings
    await ensure_topics(settings, [FeaturesComputed.topic])
    record = (FeaturesComputed.topic.name, 0, b"key", computed(received("one")).encode())
    connection = ProducerConnection(client_settings(settings, "feature"), settings.delivery_timeout_s)
    await connection.start()
    await asyncio.wait(await connection.send(settings.topic_prefix, [record], EVENT_HEADERS))  # knows the topic
    requests = Requests(requests_s, monkeypatch)
    answering = asyncio.create_task(requests.answer())
    try:
        acks = await connection.send(settings.topic_prefix, [record] * RECORDS, EVENT_HEADERS)
        turns = requests.turns
        await asyncio.wait(acks)
    finally:
        await cancel(answering)
        await connection.close()

    looks = RECORDS / LOOK_EVERY
    slice_looks = max(0.0002, requests_s / 4) / LOOK_S
    assert looks / (slice_looks + 2) <= turns <= looks / slice_looks + 2


async def test_partitions_are_looked_up_at_a_quarter_of_the_time_that_requests_take(
    kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = KafkaPublisher("feature", kafka_bus.settings, lambda keys: [0] * len(keys))
    placed = list[PlacedRecord]()

    async def append(records: Sequence[PlacedRecord], headers: Headers) -> dict[tuple[str, int], int]:
        placed.extend(records)
        return {}

    monkeypatch.setattr(publisher, "append", append)
    requests = Requests(REQUESTS_S, monkeypatch)
    answering = asyncio.create_task(requests.answer())
    try:
        await publisher.publish([encode(computed(received("one")))] * RECORDS)
    finally:
        await cancel(answering)

    assert (len(placed), requests.turns) == (RECORDS, 1)
