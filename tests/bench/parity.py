"""Parity over both doors: the features of every record are what the pure code gives from the log at its state.

Events of many entities come by the stream and by REST in random order, to two workers of serving; feature and serving
are killed and started again in between.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from zlib import crc32

from tests.bench import stream
from tests.bench.bus import Bus, topics
from tests.bench.figures import Figure
from tests.bench.rest import PATH, USUAL, load
from tests.bench.settings import Settings
from tests.bench.subject import Subject, service, until
from tests.parity import Observed, by_entity, find_disparities

from everloop.local.ports import free_port
from everloop_schemas.catalogue import decode
from everloop_schemas.feature import EntityState, FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade

PREFIX = "parity."
WORKERS = 2
AT_ONCE = 50_000
"""So many events, and both services are killed; so many are in memory when records are compared."""
WINDOWS = [
    {"fields": "all"},
    {"name": "demand_mean_12", "mean": "nswdemand", "over": "12 events"},
    {"name": "price_max", "max": "nswprice", "over": "1h"},
    {"name": "price_last", "last": "nswprice"},
]
STREAM_PER_S, PART = 2_000, 50
COMPARED = (EventReceived, ObservationReceived, FeaturesComputed, PredictionMade)
TOPICS = (*(kind.topic for kind in COMPARED), EntityState.topic, LoopState.topic)


async def measure(settings: Settings) -> list[Figure]:
    """Let the events flow in rounds, and compare all that came of them."""
    count, dice = settings.parity_events, random.Random(1)
    each = min(AT_ONCE, -(-count // 3))
    state = stream.state(features=WINDOWS)
    async with topics(settings.bootstrap, PREFIX, *TOPICS) as bus:
        await bus.put(state)
        for start in range(0, count, each):
            async with _running(settings) as serving:
                await _observe(bus, serving, settings, dice, range(start, min(start + each, count)))
        async with _running(settings) as serving:

            async def all_predicted() -> bool:
                return await bus.count(PredictionMade.topic) >= count

            await until(all_predicted, serving)
            return await _compared(bus, state.data.spec, count)


@asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[Subject]:
    """Serving, with feature beside it; both are killed at the end of the block."""
    folder, port = settings.folder / PREFIX, free_port()
    options = {
        "serving_workers": WORKERS,
        "serving_feature_url": f"http://127.0.0.1:{port}",
        "serving_entity_read_ms": 1_000,
    }
    async with (
        service("feature", settings.bootstrap, PREFIX, folder, feature_port=port) as feature,
        service("serving", settings.bootstrap, PREFIX, folder, **options) as serving,
    ):
        await feature.ready()
        await serving.ready()
        yield serving


async def _observe(bus: Bus, serving: Subject, settings: Settings, dice: random.Random, numbers: range) -> None:
    """Send these events, each by a door and for an entity that chance has chosen; REST waits for its answers."""
    events, requests = list[EventReceived](), list[bytes]()
    for number, (_, fields, _) in zip(numbers, stream.rows(len(numbers)), strict=True):
        entity = f"e{dice.randrange(settings.parity_entities)}"
        if dice.random() < 0.5:
            events.append(stream.observation(f"s{number}", entity, fields, stream.START + timedelta(seconds=number)))
        else:
            requests.append(json.dumps({"id": f"r{number}", "entity": entity, "data": fields}).encode())
    _, found = await asyncio.gather(_fill(bus, events), load(serving, PATH, USUAL, len(requests), requests))
    if found.failed:
        raise RuntimeError(f"{found.failed} requests failed")


async def _fill(bus: Bus, events: Sequence[EventReceived]) -> None:
    """Write the events about as fast as the requests come, so that both doors are open together."""
    for first in range(0, len(events), PART):
        await bus.put(*events[first : first + PART])
        await asyncio.sleep(PART / STREAM_PER_S)


async def _compared(bus: Bus, spec: LoopSpec, count: int) -> list[Figure]:
    """Compare the records of one part of the entities after another, so that any number of them fits into memory."""
    sources, wrong = Counter[str](), list[str]()
    parts = -(-count // AT_ONCE)
    for part in range(parts):
        found = list[Observed | FeaturesComputed | PredictionMade]()
        for kind in COMPARED:
            async for value in bus.read(kind.topic):
                event = decode(kind.topic.name, value)
                if isinstance(event, COMPARED) and crc32(event.data.entity.encode()) % parts == part:
                    found.append(event)
        logs = by_entity(found)
        wrong += find_disparities(spec, logs)
        made = [prediction for log in logs.values() for prediction in log.predictions.values()]
        sources.update(each.data.windows.source if each.data.windows else "none" for each in made)
    note = f"states from {', '.join(f'{source} {n:,}' for source, n in sources.most_common())}"
    if wrong:
        note += f"; the first of {len(wrong)} that differ: {wrong[0][:200]}"
    share, compared = 100 * (1 - len(wrong) / max(1, sources.total())), sources.total()
    return [
        Figure("parity, records equal to the log", share, "%", goal=">= 100", met=share == 100, note=note),
        Figure("parity, records compared", compared, "records", goal=f">= {count:,}", met=compared == count),
        Figure("parity, windows unread", sources["unread"], "records"),
    ]
