"""Resident memory: six services idle, with many loops, with many entities, and its slope over a soak."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench import stream
from tests.bench.bus import Bus, connected
from tests.bench.figures import Figure
from tests.bench.installation import Installation, entries, installation, labels
from tests.bench.settings import Settings
from tests.bench.subject import until

from everloop_schemas.envelope import Topic
from everloop_schemas.feature import FeaturesComputed, OutcomeObserved
from everloop_schemas.serving import PredictionMade

POST = 100
BOUNDS = {
    "feature_ids_kept": 512,
    "feature_max_joins": 1_000,
    "serving_recent_predictions": 2_000,
    "serving_entity_states": 1_000,
}
"""Limits that are reached within a minute of the soak: beyond them memory must not grow."""
SETTLE_SHARE = 0.4
LOOK_EVERY_S = 2.0


async def measure(settings: Settings) -> list[Figure]:
    """The soak has an installation of its own, whose settings bound what the services remember."""
    figures: list[Figure] = []
    async with _installation(settings, "memory.") as at_work, connected(settings.bootstrap, at_work.prefix) as bus:
        figures += _stated("memory, idle", at_work)
        await _loops(settings, at_work)
        figures += _stated(f"memory, {settings.memory_loops} loops", at_work)
        await _entities(settings, at_work, bus)
        figures += _stated(f"memory, and {settings.memory_entities:,} entities", at_work)
        if settings.quick:
            return [*figures, *await _soak(settings, at_work, bus)]
    async with (
        _installation(settings, "soak.", **BOUNDS) as at_work,
        connected(settings.bootstrap, at_work.prefix) as bus,
    ):
        return [*figures, *await _soak(settings, at_work, bus)]


@asynccontextmanager
async def _installation(settings: Settings, prefix: str, **bounds: object) -> AsyncIterator[Installation]:
    if settings.installation:
        yield settings.installation
        return
    async with installation(settings.folder / prefix.rstrip("."), settings.bootstrap, prefix, **bounds) as made:
        yield made


def _stated(what: str, at_work: Installation) -> list[Figure]:
    by_service = at_work.resident_mb()
    note = ", ".join(f"{service} {mb:.0f}" for service, mb in by_service.items())
    return [Figure(what, sum(by_service.values()), "MB resident", note=note)]


async def _loops(settings: Settings, at_work: Installation) -> None:
    """Loops applied by HTTP, with a few observations each."""
    url, last = at_work.url("registry"), ""
    for n in range(settings.memory_loops):
        last = f"many-{n}"
        answer = await at_work.client.put(f"{url}/v1/loops/{last}", json=stream.spec(last))
        answer.raise_for_status()
    await at_work.apply(stream.spec(last))  # waits until all services know it
    rows = list(stream.rows(10))
    for n in range(settings.memory_loops):
        await at_work.post(f"many-{n}", "events", entries(rows, f"many-{n}", 10))
        await at_work.post(f"many-{n}", "labels", labels(rows, f"many-{n}"))


async def _entities(settings: Settings, at_work: Installation, bus: Bus) -> None:
    """One observation from each entity."""
    before, rows = await bus.count(PredictionMade.topic), list(stream.rows(settings.memory_entities))
    vectors = await bus.count(FeaturesComputed.topic)
    for first in range(0, len(rows), POST):
        events = entries(rows[first : first + POST], "entities", settings.memory_entities)
        await at_work.post("many-0", "events", events)
        await _reached(bus, FeaturesComputed.topic, vectors + first - 5_000)
    await _reached(bus, PredictionMade.topic, before + len(rows))


async def _reached(bus: Bus, topic: Topic, count: int) -> None:
    async def there() -> bool:
        return await bus.count(topic) >= count

    await until(there, None)


async def _soak(settings: Settings, at_work: Installation, bus: Bus) -> list[Figure]:
    """Observations and labels at a steady rate; the least-squares slope of each service after the first 40 %."""
    await at_work.apply(stream.spec("soak"))
    looks: list[tuple[float, dict[str, float]]] = []
    started, count = time.perf_counter(), int(settings.soak_rate * settings.soak_s)
    step = max(1, settings.soak_rate // 10)
    rows, before = list(stream.rows(count)), await bus.count(OutcomeObserved.topic)
    for first in range(0, count, step):
        await asyncio.sleep(max(0.0, started + first / settings.soak_rate - time.perf_counter()))
        await at_work.post("soak", "events", entries(rows[first : first + step], "soak", stream.ENTITIES))
        await at_work.post("soak", "labels", labels(rows[first : first + step], "soak"))
        now = time.perf_counter() - started
        if not looks or now - looks[-1][0] >= min(LOOK_EVERY_S, settings.soak_s / 20):
            looks.append((now, at_work.resident_mb()))
    settled = [look for look in looks if look[0] >= SETTLE_SHARE * settings.soak_s]
    slopes = {name: _slope([(t, mb[name]) for t, mb in settled]) * 3600 for name in settled[0][1]}
    note = ", ".join(f"{name} {slope:+.0f}" for name, slope in slopes.items())
    late = count + before - await bus.count(OutcomeObserved.topic)
    what = f"memory, slope at {settings.soak_rate}/s over {settings.soak_s:g} s"
    held = sum(settled[-1][1].values())
    return [Figure(what, sum(slopes.values()), "MB/h", note=f"{note}; {held:.0f} MB in all, {late} outcomes late")]


def _slope(points: list[tuple[float, float]]) -> float:
    """Least squares, per second."""
    n = len(points)
    mean_t, mean_v = sum(t for t, _ in points) / n, sum(v for _, v in points) / n
    spread = sum((t - mean_t) ** 2 for t, _ in points)
    return sum((t - mean_t) * (v - mean_v) for t, v in points) / spread if spread else 0.0
