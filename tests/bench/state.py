"""Keyed state on disk: what many entities or joins take, how long a start lasts with them, and what an event costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

from confluent_kafka import KafkaError, Producer
from rich.console import Console
from rich.progress import track
from tests.bench import stream
from tests.bench.bus import Bus, topics
from tests.bench.figures import Figure, Sample
from tests.bench.settings import Settings
from tests.bench.subject import Subject, drained, service, service_of

from everloop_feature.domain.entity import Entity
from everloop_feature.domain.join import Join
from everloop_features import compile_features
from everloop_schemas.envelope import FOREVER, Topic
from everloop_schemas.feature import EntityState, FeaturesComputed, OutcomeObserved
from everloop_schemas.ingest import EventReceived, LabelReceived, LabelReceivedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.keyed.state import StoredValue, storage_key
from everloop_shared.settings import Settings as ServiceSettings

ENTITIES, JOINS = (
    Topic(f"feature.{name}.changelog", "feature", "loop/subject", FOREVER, compacted=True)
    for name in ("entities", "joins")
)
TOPICS = (
    EventReceived.topic,
    LabelReceived.topic,
    FeaturesComputed.topic,
    EntityState.topic,
    OutcomeObserved.topic,
    LoopState.topic,
    ENTITIES,
    JOINS,
)
RESIDENT_MB, WARM_S, COLD_US, THROUGHPUT = 600, 10, 20, 0.8
TEMPLATES = 1_000
PRODUCER = {"linger.ms": 50, "batch.size": 900_000, "acks": "all", "queue.buffering.max.messages": 200_000}


@dataclass(frozen=True)
class Kind:
    """What there is much of: its changelog, its values by key, and records that use some of it with what they cause."""

    name: str
    changelog: Topic
    values: Callable[[int], Iterator[tuple[str, bytes]]]
    uses: Callable[[int, int], Iterator[tuple[bytes, bytes]]]
    source: Topic
    caused: Topic


async def measure(settings: Settings) -> list[Figure]:
    """Values are written to a changelog as a service would; then it starts on that, without its disk and with it."""
    found = list[Figure]()
    for kind, count in ((OF_ENTITIES, settings.state_entities), (OF_JOINS, settings.state_joins)):
        if count:
            found += await _of(kind, count, settings)
    return [*found, await _throughput(settings)]


async def _of(kind: Kind, count: int, settings: Settings) -> list[Figure]:
    prefix = f"{kind.name}."
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.put(stream.state())
        await asyncio.to_thread(_fill_changelog, settings.bootstrap, prefix, kind, count)
        async with _started(settings, prefix, count) as (subject, cold_s):
            cold_cpu_s, cold_mb = subject.cpu_s(), subject.resident_mb()
        async with _started(settings, prefix, count) as (subject, warm_s):
            warm_cpu_s = subject.cpu_s()
            event_us = await _handled(settings, bus, subject, kind, count)
            resident_mb = max(cold_mb, subject.resident_mb())
    what = f"feature, {count:,} {kind.name} on disk"
    restored_us, note = 1e6 * (cold_cpu_s - warm_cpu_s) / count, f"{cold_s:.0f} s"
    return [
        _figure(f"{what}: resident memory", resident_mb, "MB", RESIDENT_MB),
        _figure(f"{what}: start with its disk, after kill -9", warm_s, "s", WARM_S),
        _figure(f"{what}: start without its disk, CPU per record beyond that", restored_us, "us", COLD_US, note=note),
        Figure(f"{what}: CPU per event, all over them", event_us, "us"),
    ]


def _figure(name: str, value: float, unit: str, limit: float, note: str = "") -> Figure:
    return Figure(name, value, unit, goal=f"<= {limit:g}", met=value <= limit, note=note)


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
async def _started(settings: Settings, prefix: str, count: int) -> AsyncIterator[tuple[Subject, float]]:
    """The service, killed in the end, and the seconds until it was ready."""
    began = time.perf_counter()
    where: Path = settings.folder / prefix / "disk"
    async with service("feature", settings.bootstrap, prefix, where) as subject:
        await subject.ready(max(600.0, count / 2_000))
        yield subject, time.perf_counter() - began


async def _handled(settings: Settings, bus: Bus, subject: Subject, kind: Kind, count: int) -> float:
    """Microseconds of CPU for a record that uses one of them, where the records are all over the state."""
    events = min(count, settings.feature_events)
    await bus.fill(kind.source, kind.uses(events, count))
    return median(s.cpu_us for s in await drained(subject, partial(bus.count, kind.caused), events))


def _fill_changelog(bootstrap: str, prefix: str, kind: Kind, count: int) -> None:
    """One value per key, in the partition of its events; by a producer in C, which is quick enough for ten million."""
    partition_for = kafka_factory(ServiceSettings(kafka_bootstrap=bootstrap))("feature").partition_for
    producer, failed = Producer({"bootstrap.servers": bootstrap, **PRODUCER}), list[KafkaError]()

    def note(error: KafkaError | None, _: object) -> None:
        if error:
            failed.append(error)

    topic, shown = prefix + kind.changelog.name, Console(stderr=True)
    values = track(kind.values(count), f"{count:,} {kind.name}", count, console=shown, disable=count < TEMPLATES)
    for n, (key, value) in enumerate(values):
        partition = partition_for(kind.changelog, key.encode())
        name = storage_key(partition, key)
        while True:
            try:
                producer.produce(topic, value, name, partition, on_delivery=note)
                break
            except BufferError:
                producer.poll(0.1)
        if n % 1_000 == 0:
            producer.poll(0)
    producer.flush()
    if failed:
        raise RuntimeError(f"{len(failed)} records of the changelog were not written: {failed[0]}")


def _entities(count: int) -> Iterator[tuple[str, bytes]]:
    """Entities after some observations; the windows differ by the row of the stream they end with."""
    plan, stored = compile_features(LoopSpec.model_validate(stream.spec())), list[bytes]()
    entity = Entity()
    for n, fields, _ in stream.rows(TEMPLATES):
        entity = entity.observe(plan, f"before-{n}", fields, stream.START, stream.START)
        one = Entity(12, entity.state, entity.features, entity.ids[-120:])
        stored.append(StoredValue({ObservationReceived.topic.name: n}, one.dump()).encode())
    for n in range(count):
        yield f"{stream.LOOP}/e{n}", stored[n % TEMPLATES]


def _observations(events: int, entities: int) -> Iterator[tuple[bytes, bytes]]:
    return stream.observations(events, entities=entities, stride=max(1, entities // events))


def _joins(count: int) -> Iterator[tuple[str, bytes]]:
    """Predictions whose labels have not come."""
    due_ms = int(time.time() * 1000) + 7 * 86_400_000
    for n, fields, _ in stream.rows(count):
        event = stream.prediction(f"o{n}", f"e{n % stream.ENTITIES}", fields)
        join = Join(due_ms + n, prediction=event.encode(), prediction_revision=1)
        yield f"{stream.LOOP}/o{n}", StoredValue({PredictionMade.topic.name: n}, join.dump()).encode()


def _labels(events: int, joins: int) -> Iterator[tuple[bytes, bytes]]:
    stride = max(1, joins // events)
    for n, _, label in islice(stream.rows(joins), 0, events * stride, stride):
        data = LabelReceivedData(prediction_id=f"o{n}", kind="label", label=label, received=stream.START)
        yield stream.wire(
            LabelReceived(id=f"l{n}", time=stream.START, subject=f"o{n}", loop=stream.LOOP, revision=1, data=data)
        )


OF_ENTITIES = Kind("entities", ENTITIES, _entities, _observations, EventReceived.topic, FeaturesComputed.topic)
OF_JOINS = Kind("joins", JOINS, _joins, _labels, LabelReceived.topic, OutcomeObserved.topic)
