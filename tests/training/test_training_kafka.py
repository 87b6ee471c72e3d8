"""Training on real Kafka: it learns, stops, and goes on where its snapshot says."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.builders.running import until
from tests.training.training_harness import alert, event, losses, of, spec, state

from everloop_schemas.envelope import Event
from everloop_schemas.training import ChallengeUpdated, RunRequested
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import LogReader, connected
from everloop_shared.service import Service
from everloop_training.app import build
from everloop_training.settings import TrainingSettings
from everloop_training.worker.inline import InlineWorker

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


async def test_partitions_move_between_replicas_of_several_workers_and_every_loss_stays_the_same(
    kafka: Any, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"kafka_bootstrap": kafka.bootstrap, "topic_prefix": f"{uuid4().hex[:8]}.", "workers": 2}
    settings = [TrainingSettings(data=tmp_path / name, port=0, instance=name, **common) for name in "ab"]
    loops = ("market", "north", "south", "east", "west", "hill", "lake", "till")
    async with connected(kafka_factory(settings[0])("ingest")) as engine:
        services = [build(one, kafka_factory(one), InlineWorker.start) for one in settings]
        stops = [asyncio.Event() for _ in settings]
        tasks = [await running(services[0], stops[0])]
        await engine.publish([state(of=spec(loop=loop)) for loop in loops])

        await engine.publish([event(i, loop) for i in range(150) for loop in loops])
        await _all_learned(engine, loops, 150)
        tasks.append(await running(services[1], stops[1]))  # two partitions move to the other replica
        await engine.publish([event(i, loop) for i in range(150, 300) for loop in loops])
        await _all_learned(engine, loops, 300)
        stops[0].set()
        await tasks[0]  # and all move
        await engine.publish([event(i, loop) for i in range(300, 400) for loop in loops])
        reported = await _all_learned(engine, loops, 400)
        stops[1].set()
        await tasks[1]

    assert {len(values) for values in reported.values()} == {1}


async def _all_learned(log: LogReader, loops: Sequence[str], count: int) -> dict[tuple[str, int, str], set[float]]:
    """What was reported on each outcome and line of each loop, once `count` outcomes of each loop were."""
    while True:
        found = defaultdict[tuple[str, int, str], set[float]](set)
        for partition in range(4):
            end = await log.end_offset(ChallengeUpdated.topic, partition)
            for e in of(ChallengeUpdated, [e for _, e in await log.read(ChallengeUpdated.topic, partition, 0, end)]):
                for line, values in e.data.losses.items():
                    for offset, loss in zip(e.data.offsets, values, strict=True):
                        if loss is not None:
                            found[e.loop, offset, line].add(loss)
        if all(len({offset for name, offset, _ in found if name == loop}) >= count for loop in loops):
            return found
        await asyncio.sleep(0.2)
