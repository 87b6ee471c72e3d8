"""The feature service as a process on real Kafka: killed under load, checked by reading its log as an auditor would."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from tests.feature.feature_world import event, label, loop_state, prediction, spec

from everloop.house.kafka import Broker
from everloop_feature.domain import Entity
from everloop_feature.settings import FeatureSettings
from everloop_features import compile_features
from everloop_schemas.envelope import Event, Fields, Topic
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved
from everloop_schemas.ingest import EventReceived
from everloop_shared.messaging.kafka import kafka_factory
from everloop_shared.messaging.routes import Engine
from everloop_shared.messaging.topics import ensure_topics

EVENTS = 4_000
PER_SECOND = 250
KILLS = 4


@contextmanager
def _worker(settings: FeatureSettings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = os.environ | {
        "EVERLOOP_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "EVERLOOP_TOPIC_PREFIX": settings.topic_prefix,
        "EVERLOOP_DATA": str(settings.data),
        "EVERLOOP_INSTANCE": "crash-test",
    }
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "everloop_feature"], env=env, stdout=out, stderr=out)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(20)


def _inputs(n: int) -> list[Event]:
    """One event of each kind; every tenth is of one hot entity, labels run ahead of or behind the predictions."""
    entity = "hot" if n % 10 == 0 else f"u{n % 97}"
    say = [event(n, price=float(n % 13), entity=entity)]
    return [*say, prediction(n), label(n)] if n % 3 else [*say, label(n), prediction(n)]


async def _read(bus: Engine, topic: Topic, partitions: int = 4) -> list[Event]:
    events: list[Event] = []
    for partition in range(partitions):
        end = await bus.end_offset(topic, partition)
        events += [e for _, e in await bus.read(topic, partition, 0, end)]
    return events


async def _reaches(bus: Engine, topic: Topic, distinct: int, within_s: float) -> list[Event]:
    deadline = time.monotonic() + within_s
    while True:
        events = await _read(bus, topic)
        if len({e.id for e in events}) >= distinct or time.monotonic() > deadline:
            return events
        await asyncio.sleep(0.5)


async def _play(bus: Engine, first: int, last: int) -> None:
    started = time.monotonic()
    for n in range(first, last, 25):
        await bus.publish([e for i in range(n, min(n + 25, last)) for e in _inputs(i)])
        await asyncio.sleep(max(0.0, started + (n - first) / PER_SECOND - time.monotonic()))


def _expected_vectors(inputs: Sequence[Event]) -> tuple[dict[str, Fields], dict[str, int]]:
    """What the pure rules make of the log, entity by entity in its order."""
    plan, entities, vectors = compile_features(spec()), defaultdict[str, Entity](Entity), {}
    for e in inputs:
        assert isinstance(e, EventReceived)
        entity = entities[e.subject].observe(plan, e.id, e.data.fields, e.time)
        entities[e.subject], vectors[e.id] = entity, entity.features
    return vectors, {name: entity.applied for name, entity in entities.items()}


def _same_bytes_twice(events: Sequence[Event]) -> dict[str, Event]:
    said: dict[str, Event] = {}
    for e in events:
        assert said.setdefault(e.id, e) == e, f"{e.id} was said twice, with different words"
    return said


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_killed_under_load_it_loses_nothing_and_contradicts_nothing(kafka: Broker, tmp_path: Path) -> None:
    settings = FeatureSettings(data=tmp_path, kafka_bootstrap=kafka.bootstrap, topic_prefix=f"crash-{uuid4().hex[:8]}.")
    read = (EventReceived, FeaturesComputed, OutcomeObserved, EntityState)
    await ensure_topics(settings, [kind.topic for kind in read])
    bus = kafka_factory(settings)("registry", [])
    await bus.start()
    try:
        await bus.publish([loop_state()])
        playing = asyncio.create_task(_play(bus, 0, EVENTS))
        for kill in range(KILLS):
            with _worker(settings, tmp_path / "worker.log") as process:
                await _reaches(bus, FeaturesComputed.topic, (kill + 1) * EVENTS // (KILLS + 2), 30)
                os.kill(process.pid, signal.SIGKILL)
                process.wait(10)
        await playing
        with _worker(settings, tmp_path / "worker.log") as process:
            outcomes = await _reaches(bus, OutcomeObserved.topic, EVENTS, 40)
            computed = await _reaches(bus, FeaturesComputed.topic, EVENTS, 20)
            assert process.poll() is None, (tmp_path / "worker.log").read_text()[-3000:]

        vectors = _same_bytes_twice(computed)
        expected, applied = _expected_vectors(await _read(bus, EventReceived.topic))
        assert {v.data.prediction_id: v.data.features for v in vectors.values()} == expected
        joined = _same_bytes_twice(outcomes)
        assert {o.subject for o in joined.values()} == {f"e{n}" for n in range(EVENTS)}
        assert all(o.data.label is True and o.data.correction == 0 for o in joined.values())
        states = {e.subject: e.data.applied for e in await _read(bus, EntityState.topic)}
        assert states == applied
    finally:
        await bus.stop()
