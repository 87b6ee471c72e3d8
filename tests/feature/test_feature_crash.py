"""The feature service as a process on real Kafka: killed under load, then checked by what is on its topics."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from tests.feature.feature_events import event, label, loop_state, observation, prediction, spec

from everloop.local.kafka import Broker
from everloop.local.ports import free_port
from everloop_feature.domain.entity import Entity
from everloop_feature.settings import FeatureSettings
from everloop_features import compile_features
from everloop_schemas.envelope import Event, Fields, Topic
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved
from everloop_schemas.ingest import EventReceived
from everloop_schemas.loop import LoopSpec
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import Engine, connected

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
        "EVERLOOP_FEATURE_PORT": str(free_port()),
    }
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "everloop_feature"], env=env, stdout=out, stderr=out)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(20)


def _inputs(n: int, rest: bool) -> list[Event]:
    """One of each kind; every tenth is of one hot entity, labels run ahead of or behind the predictions."""
    entity = "hot" if n % 10 == 0 else f"u{n % 97}"
    observed = observation if rest and n % 5 == 0 else event
    joined = [prediction(n, entity=entity), label(n, value=n % 4 == 0)]
    return [observed(n, price=float(n % 13), entity=entity), *(joined if n % 3 else reversed(joined))]


async def _read(bus: Engine, topic: Topic, partitions: int = 4) -> list[Event]:
    events: list[Event] = []
    for partition in range(partitions):
        end = await bus.end_offset(topic, partition)
        events += [e for _, e in await bus.read(topic, partition, 0, end)]
    return events


async def _reaches(bus: Engine, topic: Topic, distinct: int, within_s: float) -> list[Event]:
    deadline = time.monotonic() + within_s
    while True:
        records = sum([await bus.end_offset(topic, partition) for partition in range(4)])
        events = await _read(bus, topic) if records >= distinct else []
        if len({e.id for e in events}) >= distinct:
            return events
        assert time.monotonic() < deadline, f"{topic.name}: {records} records, {distinct} different ones wanted"
        await asyncio.sleep(0.3)


async def _publish_inputs(bus: Engine, rest: bool) -> None:
    started = time.monotonic()
    for n in range(0, EVENTS, 25):
        await bus.publish([e for i in range(n, n + 25) for e in _inputs(i, rest)])
        await asyncio.sleep(max(0.0, started + n / PER_SECOND - time.monotonic()))


@asynccontextmanager
async def _killed_under_load(
    settings: FeatureSettings, loop: LoopSpec, rest: bool, vectors: int
) -> AsyncIterator[Engine]:
    """The bus after all inputs were published, while the service was killed again and again."""
    await ensure_topics(
        settings, [kind.topic for kind in (EventReceived, FeaturesComputed, OutcomeObserved, EntityState)]
    )
    log, bus = settings.data / "worker.log", kafka_factory(settings)("registry")
    async with connected(bus):
        await bus.publish([loop_state(loop)])
        async with asyncio.TaskGroup() as publishing:  # where that fails, nothing is waited for in vain
            publishing.create_task(_publish_inputs(bus, rest))
            for kill in range(KILLS):
                with _worker(settings, log) as process:
                    await _reaches(bus, FeaturesComputed.topic, (kill + 1) * vectors // (KILLS + 2), 30)
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait(10)
        with _worker(settings, log) as process:
            await _reaches(bus, FeaturesComputed.topic, vectors, 60)
            await _reaches(bus, OutcomeObserved.topic, EVENTS, 60)
            assert process.poll() is None, log.read_text()[-3000:]
        yield bus


def _expected_vectors(inputs: Sequence[Event]) -> tuple[dict[str, Fields], dict[str, int]]:
    """The vectors that the pure rules give for the log, entity by entity in its order."""
    plan, entities, vectors = compile_features(spec()), defaultdict[str, Entity](Entity), {}
    for e in inputs:
        assert isinstance(e, EventReceived)
        entity = entities[e.subject].observe(plan, e.id, e.data.fields, e.time)
        entities[e.subject], vectors[e.id] = entity, entity.features
    return vectors, {name: entity.applied for name, entity in entities.items()}


def _by_id(events: Sequence[Event]) -> dict[str, Event]:
    """Events by id; those published twice have the same bytes."""
    published: dict[str, Event] = {}
    for e in events:
        assert published.setdefault(e.id, e) == e, f"{e.id} was published twice, with different bytes"
    return published


def _settings(kafka: Broker, folder: Path) -> FeatureSettings:
    prefix = f"crash-{uuid4().hex[:8]}."  # of new topics, whose leaders a busy broker is slow to name
    return FeatureSettings(data=folder, kafka_bootstrap=kafka.bootstrap, topic_prefix=prefix, delivery_timeout_s=60.0)


@pytest.mark.kafka
@pytest.mark.timeout(240)
@pytest.mark.promise(2)
async def test_killed_under_load_it_loses_nothing_and_contradicts_nothing(kafka: Broker, tmp_path: Path) -> None:
    settings = _settings(kafka, tmp_path)

    async with _killed_under_load(settings, spec(), rest=False, vectors=EVENTS) as bus:
        vectors = _by_id(await _read(bus, FeaturesComputed.topic))
        expected, applied = _expected_vectors(await _read(bus, EventReceived.topic))
        joined = _by_id(await _read(bus, OutcomeObserved.topic))
        states = {e.subject: e.data.applied for e in await _read(bus, EntityState.topic)}

    assert {v.data.prediction_id: v.data.features for v in vectors.values()} == expected
    assert {o.subject: o.data.label for o in joined.values()} == {f"e{n}": n % 4 == 0 for n in range(EVENTS)}
    assert states == applied


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_killed_while_three_topics_move_one_entity_it_contradicts_nothing(kafka: Broker, tmp_path: Path) -> None:
    settings = _settings(kafka, tmp_path)
    last_label = [{"name": "last_label", "lag": "label"}, {"name": "mean_3", "mean": "price", "over": "3 events"}]

    async with _killed_under_load(settings, spec(features=last_label), True, EVENTS - EVENTS // 5) as bus:
        vectors = _by_id(await _read(bus, FeaturesComputed.topic))
        joined = _by_id(await _read(bus, OutcomeObserved.topic))
        states = {e.subject: e.data.applied for e in await _read(bus, EntityState.topic)}

    assert len(vectors) == EVENTS - EVENTS // 5
    assert len(joined) == EVENTS
    assert sum(states.values()) == EVENTS
