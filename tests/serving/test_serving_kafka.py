"""Serving on real Kafka: what only a broker can show."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from everloop_schemas.serving import PredictionMade
from everloop_serving.settings import ServingSettings
from everloop_shared.messaging.kafka.consumer import KafkaConsumer
from everloop_shared.messaging.kafka.engine import KafkaEngine, kafka_factory
from everloop_shared.messaging.routes import LogReader, Routes, StartAt, UnitOfWork, connected

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

    from everloop.local.kafka import Broker


async def _predictions(engine: LogReader) -> list[PredictionMade]:
    found = []
    for p in range(4):
        end = await engine.end_offset(PredictionMade.topic, p)
        found += [e for _, e in await engine.read(PredictionMade.topic, p, 0, end)]
    return [e for e in found if isinstance(e, PredictionMade)]


async def _until_predicted(engine: LogReader, subjects: set[str]) -> list[PredictionMade]:
    async with asyncio.timeout(20):
        while True:
            predictions = await _predictions(engine)
            if subjects <= {p.subject for p in predictions}:
                return predictions
            await asyncio.sleep(0.05)


@pytest.mark.kafka
async def test_a_replica_that_takes_over_uncommitted_records_says_the_same_again(
    serving: RunningServing, kafka: Broker
) -> None:
    prefix = f"serving-{uuid4().hex[:8]}-"
    common = {"data": serving.folder, "kafka_bootstrap": kafka.bootstrap, "topic_prefix": prefix}
    settings = ServingSettings.model_validate(common)
    connect = kafka_factory(settings)
    async with connected(connect("ingest")) as engine:
        await serving.start(connect, topic_prefix=prefix, kafka_bootstrap=kafka.bootstrap)
        await engine.publish(
            [serving.state(serving.version("logistic-0@1")), *(serving.features(f"p{i}") for i in range(50))]
        )
        before = {p.subject: p for p in await _until_predicted(engine, {f"p{i}" for i in range(50)})}
        requested = (await serving.predict("requested", price=0.9)).json()
        await _until_predicted(engine, {"requested"})
        await serving.stop()

        await serving.start(
            lambda service: RewoundEngine(service, settings), topic_prefix=prefix, kafka_bootstrap=kafka.bootstrap
        )
        await engine.publish([serving.state(serving.version("logistic-0@2")), serving.features("new")])
        after = await _until_predicted(engine, {"new"})
        again = (await serving.predict("requested", price=0.9)).json()
        other = await serving.predict("requested", price=0.1)

    assert len(after) == 52
    assert {p.subject: p for p in after if p.subject in before} == before
    assert again == requested
    assert other.status_code == 409


class RewoundEngine(KafkaEngine):
    """Consumes from the beginning, as if nothing had been committed before the process died."""

    def consumer(
        self, routes: Routes, *, unit_of_work: UnitOfWork | None = None, start_at: StartAt | None = None
    ) -> KafkaConsumer:
        async def from_the_beginning(topic: str, partition: int) -> int:
            if start_at:
                await start_at(topic, partition)
            return 0

        return super().consumer(routes, unit_of_work=unit_of_work, start_at=from_the_beginning)
