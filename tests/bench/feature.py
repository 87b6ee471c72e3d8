"""The feature service on Faust, against a bare Faust agent with one table and one send."""

from __future__ import annotations

from functools import partial

from tests.bench import stream
from tests.bench.bus import topics
from tests.bench.figures import Figure, Sample, against, at_most
from tests.bench.settings import Settings
from tests.bench.subject import drained, program, service

from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.ingest import EventReceived
from everloop_schemas.registry import LoopState

GOAL = 0.7
CPU_US = 120.0
TOPICS = (EventReceived.topic, FeaturesComputed.topic, LoopState.topic)


async def measure(settings: Settings) -> list[Figure]:
    """Ours writes two events and one state for each observation, the bare agent one and one."""
    ours, bare = list[Sample](), list[Sample]()
    for run in range(settings.runs):
        ours += await _ours(settings, f"feature{run}.")
        bare += await _bare(settings, f"faust{run}.")
    note = "ours also sends the entity's state, drops repeats and keeps the state with its offset"
    return [
        against("feature service / bare Faust agent", ours, bare, GOAL, note),
        at_most("feature service, CPU per event with one window", [one.cpu_us for one in ours], CPU_US, "us"),
    ]


async def _ours(settings: Settings, prefix: str) -> list[Sample]:
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.put(stream.state())
        await bus.fill(EventReceived.topic, stream.observations(settings.feature_events))
        async with service("feature", settings.bootstrap, prefix, settings.folder / prefix) as subject:
            return await drained(subject, partial(bus.count, FeaturesComputed.topic), settings.feature_events)


async def _bare(settings: Settings, prefix: str) -> list[Sample]:
    names, folder = [prefix + EventReceived.topic.name, prefix + FeaturesComputed.topic.name], settings.folder / prefix
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        await bus.fill(EventReceived.topic, stream.observations(settings.feature_events))
        command = ["tests.bench.bare_faust", settings.bootstrap, prefix + "faust", *names, str(folder / "faust")]
        async with program(command, folder / "log", {}) as subject:
            return await drained(subject, partial(bus.count, FeaturesComputed.topic), settings.feature_events)
