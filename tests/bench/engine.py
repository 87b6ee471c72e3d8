"""The aiokafka engine with a trivial handler, against bare aiokafka loops with the same guarantees."""

from __future__ import annotations

from functools import partial

from tests.bench import stream
from tests.bench.bus import Bus, topics
from tests.bench.figures import Figure, Sample, against
from tests.bench.settings import Settings
from tests.bench.subject import drained, program

from everloop_schemas.ingest import EventReceived
from everloop_schemas.serving import ObservationReceived

GOAL = 0.6


async def measure(settings: Settings) -> list[Figure]:
    """Ours, a bare loop that reads and writes JSON as ours does, and one that passes bytes on without looking."""
    samples: dict[str, list[Sample]] = {"ours": [], "json": [], "bytes": []}
    for run in range(settings.runs):
        prefix = f"engine{run}."
        async with topics(settings.bootstrap, prefix, EventReceived.topic, ObservationReceived.topic) as bus:
            await bus.fill(EventReceived.topic, stream.observations(settings.engine_events))
            for kind, found in samples.items():
                found += await _run(settings, bus, prefix, kind)
    note = "stricter than the goal: the bare loop does not read the event"
    return [
        against("engine / bare loop that reads and writes JSON", samples["ours"], samples["json"], GOAL),
        against("engine / bare loop that passes bytes on", samples["ours"], samples["bytes"], GOAL, note),
    ]


async def _run(settings: Settings, bus: Bus, prefix: str, kind: str) -> list[Sample]:
    source, target = EventReceived.topic, ObservationReceived.topic
    folder = settings.folder / f"{prefix}{kind}"
    command = ["tests.bench.ours_engine", kind]
    if kind != "ours":
        names = [prefix + source.name, prefix + target.name]
        command = ["tests.bench.bare_kafka", kind, settings.bootstrap, prefix + kind, *names]
    environment = {
        "EVERLOOP_KAFKA_BOOTSTRAP": settings.bootstrap,
        "EVERLOOP_TOPIC_PREFIX": prefix,
        "EVERLOOP_DATA": str(folder),
    }
    before = await bus.count(target)
    async with program(command, folder / "log", environment) as subject:
        return await drained(subject, partial(bus.count, target), before + settings.engine_events)
