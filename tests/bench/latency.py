"""From an application's observation to its prediction on the bus, at steady rates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import quantiles

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from tests.bench import stream
from tests.bench.bus import PARTITIONS
from tests.bench.figures import Figure, at_most
from tests.bench.installation import Installation, entries
from tests.bench.loop import Meter, total, warm_installation
from tests.bench.settings import Settings
from tests.tasks import cancel

from everloop_schemas.serving import PredictionMade

P50_MS, P99_MS = 20.0, 100.0
SLOW, SLOW_CPU_US = 100, 6_000.0
POSTS_PER_S = 100
LEFT_WITHIN_S = 60.0
Costs = dict[str, float]


@dataclass
class PredictionListener:
    """Consumes predictions: when each prediction id arrived."""

    arrived: dict[str, float] = field(default_factory=dict)

    async def listen(self, consumer: AIOKafkaConsumer) -> None:
        """Until cancelled; a prediction's key is loop/id."""
        while True:
            found = await consumer.getmany(timeout_ms=1_000)
            now = time.perf_counter()
            for records in found.values():
                self.arrived |= {record.key.decode().partition("/")[2]: now for record in records}


async def measure(settings: Settings) -> list[Figure]:
    """The whole way: HTTP to ingest, feature, serving, and a consumer of the predictions."""
    figures: list[Figure] = []
    async with warm_installation(settings) as (installation, loop), listening(installation) as listener:
        meter = Meter(installation, settings.broker_pid)
        for rate in settings.latency_rates:
            what, runs, costs = f"event to prediction at {rate:,}/s", list[tuple[float, float]](), list[Costs]()
            for run in range(settings.runs):
                before = meter.cpu_s()
                runs.append(await _run(installation, loop, listener, rate, settings.latency_s, run))
                events = rate * settings.latency_s
                costs.append({who: 1e6 * (s - before[who]) / events for who, s in meter.cpu_s().items()})
            figures += [
                at_most(f"{what}, p50", [p50 for p50, _ in runs], P50_MS, "ms"),
                at_most(f"{what}, p99", [p99 for _, p99 in runs], P99_MS, "ms"),
                at_most(f"{what}, CPU of all but the load", [total(c) for c in costs], _limit(rate), "us/event"),
                *(at_most(f"{what}, CPU of {who}", [c[who] for c in costs], None, "us/event") for who in costs[0]),
            ]
    return figures


def _limit(rate: int) -> float | None:
    return SLOW_CPU_US if rate <= SLOW else None


@asynccontextmanager
async def listening(installation: Installation) -> AsyncIterator[PredictionListener]:
    """A listener from the end of the predictions' topic on."""
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.bootstrap)
    await consumer.start()
    topic = installation.prefix + PredictionMade.topic.name
    partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    listener = PredictionListener()
    task = asyncio.create_task(listener.listen(consumer))
    try:
        yield listener
    finally:
        await cancel(task)
        await consumer.stop()


async def _run(
    installation: Installation, loop: str, listener: PredictionListener, rate: int, seconds: float, run: int
) -> tuple[float, float]:
    """Median and 99th percentile in ms, over every event sent, however late it was."""
    at_once = max(1, rate // POSTS_PER_S)
    sent: dict[str, float] = {}
    posts: list[asyncio.Task[None]] = []
    rows, started = list(stream.rows(int(rate * seconds))), time.perf_counter()
    for first in range(0, len(rows), at_once):
        due = started + first / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        events = entries(rows[first : first + at_once], f"{rate}-{run}", stream.ENTITIES)
        sent |= dict.fromkeys((e["id"] for e in events), due)  # when it should have been sent: no omission
        posts.append(asyncio.create_task(installation.post(loop, "events", events)))
    await asyncio.gather(*posts)
    deadline = time.monotonic() + LEFT_WITHIN_S
    while missing := sent.keys() - listener.arrived.keys():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(missing)} of {len(sent)} predictions did not come within {LEFT_WITHIN_S:g} s")
        await asyncio.sleep(0.05)
    late = [1000 * (listener.arrived[i] - due) for i, due in sent.items()]
    percentiles = quantiles(late, n=100)
    return percentiles[49], percentiles[98]
