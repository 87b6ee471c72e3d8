"""Keyed state on disk: what a feature service with many entities takes, how long it starts, and what an event costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from tests.bench import stream
from tests.bench.bus import Bus, topics
from tests.bench.figures import Figure, Sample
from tests.bench.settings import Settings
from tests.bench.subject import Subject, drained, service, service_of

from everloop_feature.domain.entity import Entity
from everloop_features import compile_features
from everloop_schemas.envelope import FOREVER, Topic
from everloop_schemas.feature import EntityState, FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.keyed.state import StoredValue, storage_key
from everloop_shared.settings import Settings as ServiceSettings

CHANGELOG = Topic("feature.entities.changelog", "feature", "loop/subject", FOREVER, compacted=True)
TOPICS = (EventReceived.topic, FeaturesComputed.topic, EntityState.topic, LoopState.topic, CHANGELOG)
RESIDENT_MB, WARM_S, THROUGHPUT = 600, 10, 0.8
IN_FLIGHT = 20_000


async def measure(settings: Settings) -> list[Figure]:
    """Entities with one window, written to the changelog as a service would have; then the service starts on it."""
    prefix, entities = "state.", settings.state_entities
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.put(stream.state())
        await _fill_changelog(settings.bootstrap, prefix, entities)
        async with _started(settings, prefix, "disk") as (subject, cold_s):
            cold_cpu_s, cold_mb = subject.cpu_s(), subject.resident_mb()
        async with _started(settings, prefix, "disk") as (subject, warm_s):
            await _handled(settings, bus, subject, entities)
            resident_mb = max(cold_mb, subject.resident_mb())
    what = f"feature, {entities:,} entities on disk"
    figures = [
        _figure(f"{what}: resident memory", resident_mb, "MB", RESIDENT_MB),
        _figure(f"{what}: start with its disk, after kill -9", warm_s, "s", WARM_S),
        Figure(
            f"{what}: start without its disk", cold_s, "s", note=f"{1e6 * cold_cpu_s / entities:.0f} us of CPU a record"
        ),
    ]
    return [*figures, await _throughput(settings)]


def _figure(name: str, value: float, unit: str, limit: float) -> Figure:
    return Figure(name, value, unit, goal=f"<= {limit:g}", met=value <= limit)


async def _throughput(settings: Settings) -> Figure:
    """The same events by the service as it is, and with its state in memory, in turn."""
    ours, bare = list[Sample](), list[Sample]()
    for run in range(settings.runs):
        ours += await _from_empty(settings, f"disk{run}.", "everloop_feature")
        bare += await _from_empty(settings, f"memory{run}.", "tests.bench.state_in_memory")
    ratio = median(b.cpu_us / o.cpu_us for o, b in zip(ours, bare, strict=True))
    return Figure(
        "feature, state on disk / in memory, by CPU per event",
        median(s.rate for s in ours),
        "events/s",
        bare=median(s.rate for s in bare),
        ratio=ratio,
        goal=f"ratio >= {THROUGHPUT:g}",
        met=ratio >= THROUGHPUT,
        cpu_us=median(s.cpu_us for s in ours),
        bare_cpu_us=median(s.cpu_us for s in bare),
    )


async def _from_empty(settings: Settings, prefix: str, module: str) -> list[Sample]:
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.put(stream.state())
        await bus.fill(EventReceived.topic, stream.observations(settings.feature_events, entities=5_000))
        async with service_of(module, "feature", settings.bootstrap, prefix, settings.folder / prefix) as subject:
            return await drained(subject, partial(bus.count, FeaturesComputed.topic), settings.feature_events)


@asynccontextmanager
async def _started(settings: Settings, prefix: str, folder: str) -> AsyncIterator[tuple[Subject, float]]:
    """The service, killed in the end, and the seconds until it was ready."""
    began = time.perf_counter()
    where: Path = settings.folder / prefix / folder
    async with service("feature", settings.bootstrap, prefix, where) as subject:
        await subject.ready(max(600.0, settings.state_entities / 2_000))
        yield subject, time.perf_counter() - began


async def _handled(settings: Settings, bus: Bus, subject: Subject, entities: int) -> None:
    """Events of entities all over the state."""
    before = await bus.count(FeaturesComputed.topic)
    events, stride = settings.feature_events, max(1, entities // settings.feature_events)
    await bus.fill(EventReceived.topic, stream.observations(events, entities=entities, stride=stride))
    await drained(subject, partial(bus.count, FeaturesComputed.topic), before + events)


async def _fill_changelog(bootstrap: str, prefix: str, entities: int) -> None:
    """One value per entity, in the partition of its events."""
    partition_for = kafka_factory(ServiceSettings(kafka_bootstrap=bootstrap))("feature").partition_for
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_batch_size=1_000_000)
    await producer.start()
    try:
        pending = list[asyncio.Future[Any]]()
        for key, value in _values(entities):
            partition = partition_for(EventReceived.topic, key.encode())
            name = storage_key(partition, key)
            pending.append(await producer.send(prefix + CHANGELOG.name, value, name, partition=partition))
            if len(pending) >= IN_FLIGHT:
                await asyncio.gather(*pending)
                pending.clear()
        await asyncio.gather(*pending)
    finally:
        await producer.stop()


def _values(entities: int) -> Iterator[tuple[str, bytes]]:
    """Entities after some observations; the windows differ by the row of the stream they end with."""
    plan, stored = compile_features(LoopSpec.model_validate(stream.spec())), list[bytes]()
    entity = Entity()
    for n, fields, _ in stream.rows(1_000):
        entity = entity.observe(plan, f"before-{n}", fields, stream.START, stream.START)
        one = Entity(12, entity.state, entity.features, entity.ids[-120:])
        stored.append(StoredValue({}, one.dump()).encode())
    for n in range(entities):
        yield f"{stream.LOOP}/e{n}", stored[n % len(stored)]
