"""Outcomes of many loops, learned by one, two and four workers of the training service."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import httpx
import psutil
from tests.bench import stream
from tests.bench.bus import topics
from tests.bench.figures import Figure, Sample, against
from tests.bench.settings import Settings
from tests.bench.subject import WARM_SHARE, Subject, service

from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.registry import LoopState

WORKERS = (1, 2, 4)
PARTITIONS = 16
MODELS: dict[str, dict[str, Any]] = {
    "logistic regression": {"preset": "logistic"},
    "a forest of ten trees": {"preset": "adaptive_forest"},
}
FOREST_SHARE = 10
"""A forest is shown a tenth of the outcomes."""
TOPICS = (OutcomeObserved.topic, LoopState.topic)
LEARNED = re.compile(r"^everloop_training_outcomes_total(?:{[^}]*})? ([0-9.e+]+)$", re.M)
LOOK_EVERY_S = 0.25
"""A look costs the service some milliseconds."""


@dataclass(frozen=True)
class Learned(Sample):
    """One run; `busiest_us` are microseconds of CPU per outcome of the busiest process."""

    busiest_us: float


@dataclass(frozen=True)
class Look:
    """When, how many outcomes were learned by then, and the CPU seconds of each process by then."""

    at: float
    learned: int
    cpu_s: dict[int, float]


async def measure(settings: Settings) -> list[Figure]:
    """The numbers of workers take turns, on the same records; CPU is that of the service and its workers."""
    figures = []
    for what, model in MODELS.items():
        count = settings.learners_outcomes // (1 if model["preset"] == "logistic" else FOREST_SHARE)
        found: dict[int, list[Learned]] = {number: [] for number in WORKERS}
        for run in range(settings.runs):
            for number in WORKERS if run % 2 == 0 else reversed(WORKERS):
                prefix = f"learners{run}.{number}.{model['preset']}."
                found[number].append(await _run(settings, prefix, number, model, count))
        figures += [_figure(f"learners, {what}", number, found[number], found[1]) for number in WORKERS]
    return figures


def _figure(what: str, workers: int, found: list[Learned], single: list[Learned]) -> Figure:
    busiest_us = median(run.busiest_us for run in found)
    note = (
        f"bare: one worker; the busiest process has {busiest_us:,.0f} us of the CPU, so that with cores for all "
        f"of them the limit is {1e6 / busiest_us:,.0f} outcomes/s"
    )
    return against(f"{what}, {workers} worker{'s' * (workers > 1)}", found, single, None, note, "outcomes/s")


async def _run(settings: Settings, prefix: str, workers: int, model: dict[str, Any], count: int) -> Learned:
    """From a full log until all of it is learned."""
    loops = settings.learners_loops
    async with topics(settings.bootstrap, prefix, *TOPICS, partitions=PARTITIONS) as bus:
        await bus.put(*[stream.state(stream.name(n), models=[model]) for n in range(loops)])
        await bus.fill(OutcomeObserved.topic, map(stream.wire, stream.outcomes(count, loops=loops)))
        limits = {"training_workers": workers, "partitions": PARTITIONS}
        async with service("training", settings.bootstrap, prefix, settings.folder / prefix, **limits) as subject:
            await subject.ready()
            return await watched(subject, count)


async def watched(subject: Subject, count: int) -> Learned:
    """What was learned in full flow: without the first outcomes, and those after the last look before the end."""
    process = psutil.Process(subject.process.pid)
    looks = [await _look(subject, process)]
    while looks[-1].learned < count:
        subject.check()
        await asyncio.sleep(LOOK_EVERY_S)
        looks.append(await _look(subject, process))
    flowing = [look for look in looks if count * WARM_SHARE <= look.learned < count]
    first, last = (flowing[0], flowing[-1]) if len(flowing) > 1 else (looks[0], looks[-1])
    learned = last.learned - first.learned
    used = [cpu_s - first.cpu_s.get(pid, 0.0) for pid, cpu_s in last.cpu_s.items()]
    return Learned(learned / (last.at - first.at), 1e6 * sum(used) / learned, 1e6 * max(used) / learned)


async def _look(subject: Subject, process: psutil.Process) -> Look:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        text = (await client.get(f"{subject.url}/metrics")).text
    times = {one.pid: one.cpu_times() for one in (process, *process.children())}
    cpu_s = {pid: used.user + used.system for pid, used in times.items()}
    return Look(time.perf_counter(), int(sum(map(float, LEARNED.findall(text)))), cpu_s)
