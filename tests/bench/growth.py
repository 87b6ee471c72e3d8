"""Growth: what an event costs, how long a start takes and what memory, with few and many loops, entities, outcomes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from statistics import median

import httpx
from tests.bench import stream
from tests.bench.bus import Bus, Record, topics
from tests.bench.figures import Figure
from tests.bench.settings import Settings
from tests.bench.subject import Subject, drained, service, until

from everloop_schemas.envelope import Topic
from everloop_schemas.feature import FeaturesComputed, OutcomeObserved
from everloop_schemas.ingest import EventReceived
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import PredictionMade

PARTS = 5
FLAT = 1.3
TOPICS = [cls.topic for cls in (EventReceived, FeaturesComputed, PredictionMade, OutcomeObserved, LoopState)]
Progress = Callable[[Bus, Subject], Awaitable[int]]


@dataclass(frozen=True)
class Grown:
    """At one size: CPU per event in microseconds, seconds from the start of the process until it is ready, and its
    resident memory in MB after the events."""

    cpu_us: float
    start_s: float
    resident_mb: float


@dataclass(frozen=True)
class Case:
    """One service at one size: loops it knows, what lies there before, what is then measured."""

    service: str
    source: Topic
    before: Callable[[], Iterable[Record]]
    measured: Callable[[], Iterable[Record]]
    progress: Progress
    loops: int = 1
    champions: bool = False


async def measure(settings: Settings) -> list[Figure]:
    """Each from the smallest to the largest size of the settings."""
    figures: list[Figure] = []
    n = settings.growth_events
    for sizes, unit, cases in (
        (settings.growth_loops, "loops", {"feature": _feature_loops, "serving": _serving_loops}),
        (settings.growth_entities, "entities", {"feature": _feature_entities}),
        (settings.growth_history, "outcomes", {"training": _training, "monitoring": _monitoring}),
    ):
        for name, case in cases.items() if sizes else ():
            grown = [await _grow(settings, case(size, n), f"growth.{name}.{size}.") for size in sizes]
            figures += _figures(f"{name}, {sizes[0]:,} to {sizes[-1]:,} {unit}", grown)
    return figures


def _figures(what: str, grown: list[Grown]) -> list[Figure]:
    """The large beside the small: flat is at most 1.3 times."""
    first, last = grown[0], grown[-1]
    made = [Figure(f"growth of {what}: resident memory", last.resident_mb, "MB", first.resident_mb)]
    for name, unit, small, large in (
        ("CPU per event", "us", first.cpu_us, last.cpu_us),
        ("start until ready", "s", first.start_s, last.start_s),
    ):
        ratio = large / small if small else float("inf")
        note = f"{small:,.3g} {unit} at the small size"
        goal = f"ratio <= {FLAT:g}"
        made.append(Figure(f"growth of {what}: {name}", large, unit, small, ratio, goal, ratio <= FLAT, note=note))
    return made


async def _grow(settings: Settings, case: Case, prefix: str) -> Grown:
    folder = settings.folder / prefix
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        names = map(stream.name, range(case.loops))
        await bus.put(*[stream.state(n, stream.champion(folder, n) if case.champions else None) for n in names])
        filled = await bus.fill(case.source, case.before())
        at_work = partial(service, case.service, settings.bootstrap, prefix, folder)
        async with at_work() as subject:
            await subject.ready()
            await _worked_off(case, bus, subject, filled)
            records = list(case.measured())
            total = await case.progress(bus, subject) + len(records)
            filling = asyncio.create_task(bus.fill(case.source, records))
            samples = await drained(subject, partial(case.progress, bus, subject), total, PARTS)
            await filling
            resident_mb = subject.resident_mb()
            await subject.end()
        starts = [await _start_s(at_work) for _ in range(settings.runs)]
    return Grown(median(s.cpu_us for s in samples), median(starts), resident_mb)


async def _worked_off(case: Case, bus: Bus, subject: Subject, count: int) -> None:
    async def done() -> bool:
        return await case.progress(bus, subject) >= count

    await until(done, subject)


async def _start_s(at_work: Callable[[], AbstractAsyncContextManager[Subject]]) -> float:
    started = time.perf_counter()
    async with at_work() as subject:
        await subject.ready()
        took = time.perf_counter() - started
        await subject.end()
    return took


def _feature_loops(loops: int, n: int) -> Case:
    return Case(
        "feature",
        EventReceived.topic,
        before=lambda: stream.observations(n // 2, loops),
        measured=lambda: stream.observations(n, loops, start=n // 2),
        progress=_count(FeaturesComputed.topic),
        loops=loops,
    )


def _serving_loops(loops: int, n: int) -> Case:
    return Case(
        "serving",
        FeaturesComputed.topic,
        before=lambda: stream.vectors(n // 2, loops),
        measured=lambda: stream.vectors(n, loops, start=n // 2),
        progress=_count(PredictionMade.topic),
        loops=loops,
        champions=True,
    )


def _feature_entities(entities: int, n: int) -> Case:
    return Case(
        "feature",
        EventReceived.topic,
        before=lambda: stream.observations(entities, entities=entities),
        measured=lambda: stream.observations(n, entities=entities, start=entities),
        progress=_count(FeaturesComputed.topic),
    )


def _training(history: int, n: int) -> Case:
    return _on_outcomes("training", history, n, _metric("everloop_training_outcomes_total"))


def _monitoring(history: int, n: int) -> Case:
    return _on_outcomes("monitoring", history, n, _metric("everloop_consumed_records_total"))


def _on_outcomes(name: str, history: int, n: int, progress: Progress) -> Case:
    return Case(
        name,
        OutcomeObserved.topic,
        before=lambda: map(stream.wire, stream.outcomes(history)),
        measured=lambda: map(stream.wire, stream.outcomes(n, start=history)),
        progress=progress,
    )


def _count(topic: Topic) -> Progress:
    async def progress(bus: Bus, subject: Subject) -> int:
        return await bus.count(topic)

    return progress


def _metric(name: str) -> Progress:
    """A counter of the service's own, over all workers, or all labels that name the outcomes' topic (or none)."""
    labels = r'(?:\{[^}]*outcome_observed[^}]*\}|\{worker="[0-9]+"\})?'
    line = re.compile(rf"^{name}{labels} ([0-9.e+]+)$", re.M)

    async def progress(bus: Bus, subject: Subject) -> int:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            text = (await client.get(f"{subject.url}/metrics")).text
        return int(sum(map(float, line.findall(text))))

    return progress
