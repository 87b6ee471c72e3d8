"""Training on real Kafka: it learns, stops, and goes on where its snapshot says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.builders.running import until
from tests.training.training_harness import alert, event, losses, of, state

from everloop_schemas.envelope import Event
from everloop_schemas.training import ChallengeUpdated, RunRequested
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import LogReader, connected
from everloop_shared.service import Service
from everloop_training.app import build
from everloop_training.settings import TrainingSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
LINE = "logistic-regression-0"


async def published(log: LogReader) -> list[Event]:
    topics = (ChallengeUpdated.topic, RunRequested.topic)
    return [e for t in topics for _, e in await log.read(t, 0, 0, await log.end_offset(t, 0))]


async def learned(log: LogReader, offset: int, deadline_s: float = 90.0) -> list[Event]:
    async with asyncio.timeout(deadline_s):
        while not any(offset in e.data.offsets for e in of(ChallengeUpdated, await published(log))):
            await asyncio.sleep(0.1)
    return await published(log)


async def running(service: Service, stop: asyncio.Event) -> asyncio.Task[None]:
    task = asyncio.create_task(service.run(stop))
    await until(lambda: task.done() or service.not_ready() is None, 90.0)
    return task


async def test_learning_goes_on_after_a_restart_and_an_alert_is_one_run(kafka: Any, tmp_path: Path) -> None:
    settings = TrainingSettings(
        data=tmp_path, port=0, kafka_bootstrap=kafka.bootstrap, topic_prefix=f"{uuid4().hex[:8]}.", partitions=1
    )
    connect = kafka_factory(settings)
    async with connected(connect("ingest")) as engine:
        service, stop = build(settings, connect), asyncio.Event()
        task = await running(service, stop)
        await engine.publish([state(), *(event(i) for i in range(700)), alert(650, 601)])
        await learned(engine, 699)
        stop.set()
        await task

        service, stop = build(settings, connect), asyncio.Event()
        task = await running(service, stop)
        await engine.publish([event(i) for i in range(700, 900)])
        events = await learned(engine, 899)
        stop.set()
        await task

    assert sorted(losses(events)[LINE]) == list(range(900))
    assert {r.data.trigger for r in of(RunRequested, events)} == {"initial", "drift"}
    assert len({r.data.run for r in of(RunRequested, events)}) == 2
