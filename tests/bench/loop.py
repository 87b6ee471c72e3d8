"""The whole loop: observations per second with their labels until outcomes lag, and what each service pays for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from tests.bench import stream
from tests.bench.bus import Bus, connected
from tests.bench.figures import Figure, at_most
from tests.bench.installation import Installation, entries, installation, labels
from tests.bench.settings import Settings
from tests.bench.subject import Tree, until

from everloop_schemas.feature import OutcomeObserved

GOAL = 1_500.0
CPU_US = 1_000.0
POST = 50
WARM_UP = 600
LOOK_EVERY_S = 0.2
Costs = dict[str, float]
Look = tuple[float, int, Costs]
Post = Callable[[str, str, list[dict[str, Any]]], Awaitable[None]]


class Meter:
    """CPU seconds so far of all that work on an observation: the services, the broker, and the load itself."""

    def __init__(self, at_work: Installation, broker_pid: int) -> None:
        self._installation, self._broker = at_work, Tree(broker_pid)

    def cpu_s(self) -> Costs:
        """By name."""
        return self._installation.cpu_s() | {"broker": self._broker.cpu_s(), "load": time.process_time()}


@dataclass
class Looks:
    """How far a run had come by the time, and the CPU seconds used by then; `settled` once all was learned."""

    found: list[Look] = field(default_factory=list)
    settled: Costs = field(default_factory=dict)

    def parts(self, count: int) -> list[tuple[Look, Look]]:
        """The looks in `count` stretches of equal length, without the first tenth."""
        flowing = self.found[len(self.found) // 10 :]
        marks = [flowing[round(i * (len(flowing) - 1) / count)] for i in range(count + 1)]
        return [(a, b) for a, b in pairwise(marks) if b[1] > a[1]]

    def cpu_us(self) -> Costs:
        """Microseconds of CPU per observation, by process, over the whole run."""
        started, done, _ = self.found[-1]
        return cpu_us(self.found[0], (started, done, self.settled))


def cpu_us(a: Look, b: Look) -> Costs:
    """Microseconds of CPU per observation between two looks, by process."""
    return {who: 1e6 * (b[2][who] - a[2][who]) / (b[1] - a[1]) for who in a[2]}


def total(costs: Costs) -> float:
    """All of it but the load."""
    return sum(us for who, us in costs.items() if who != "load")


async def measure(settings: Settings) -> list[Figure]:
    """At most `loop_window` observations are on their way: the rate is what the outcomes keep up with."""
    async with warm_installation(settings) as (at_work, loop), connected(settings.bootstrap, at_work.prefix) as bus:
        looks, caught_up_s = await flow(settings, at_work, bus, loop)
    parts = looks.parts(settings.runs)
    rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in parts]
    rate, costs = median(rates), [cpu_us(a, b) for a, b in parts]
    note = f"learning and monitoring had caught up {caught_up_s:.1f} s after the last outcome"
    return [
        Figure("whole loop", rate, "obs/s", goal=f">= {GOAL:g}", met=rate >= GOAL, note=note, runs=tuple(rates)),
        at_most("whole loop, CPU of all but the load", [total(c) for c in costs], CPU_US, "us/obs"),
        *(at_most(f"whole loop, CPU of {who}", [c[who] for c in costs], None, "us/obs") for who in costs[0]),
    ]


@asynccontextmanager
async def warm_installation(settings: Settings) -> AsyncIterator[tuple[Installation, str]]:
    """The shared installation, or one of its own, with a loop whose champion is a logistic regression."""
    if settings.installation:
        yield settings.installation, await warm(settings, settings.installation)
        return
    async with installation(settings.folder / "alone", settings.bootstrap, "alone.") as made:
        yield made, await warm(settings, made)


async def warm(settings: Settings, at_work: Installation) -> str:
    """A loop that has learned enough to have a champion; its name."""
    loop = stream.LOOP
    await at_work.apply(stream.spec(loop))
    if (await at_work.status(loop)).get("outcomes", 0) < WARM_UP:
        rows = list(stream.rows(WARM_UP))
        for first in range(0, WARM_UP, POST):
            await at_work.post(loop, "events", entries(rows[first : first + POST], "warm", stream.ENTITIES))
            await at_work.post(loop, "labels", labels(rows[first : first + POST], "warm"))

    async def promoted() -> bool:
        return bool((await at_work.status(loop)).get("champion", {}).get("version", "0") != "0")

    if not settings.quick:
        await until(promoted, None, 60.0)
    return loop


async def flow(settings: Settings, at_work: Installation, bus: Bus, loop: str, flowed: int = 0) -> tuple[Looks, float]:
    """Send observations and labels, `flowed` of which went before, until all of them are learned.

    Returns what was done and used by the time, and how long learning went on after the last outcome, in s.
    """
    before = await bus.count(OutcomeObserved.topic)
    meter = Meter(at_work, settings.broker_pid)
    looks = await feed(settings, f"flow{before}", loop, at_work.post, bus, meter.cpu_s)
    done = settings.loop_observations
    caught_up_s = await _caught_up(at_work, loop, before + done, WARM_UP + flowed + done)
    looks.settled = meter.cpu_s()
    return looks, caught_up_s


async def feed(settings: Settings, name: str, loop: str, post: Post, bus: Bus, cpu_s: Callable[[], Costs]) -> Looks:
    """Send observations and labels until each has its outcome; at most `loop_window` are on their way."""
    before, looks = await bus.count(OutcomeObserved.topic), Looks()

    async def look() -> int:
        done = await bus.count(OutcomeObserved.topic) - before
        if (
            not looks.found
            or time.perf_counter() - looks.found[-1][0] > LOOK_EVERY_S
            or done >= settings.loop_observations  # more where some of the warm-up came late
        ):
            looks.found.append((time.perf_counter(), done, cpu_s()))
        return done

    rows = list(stream.rows(settings.loop_observations))
    for first in range(0, len(rows), POST):
        await _wait(look, lambda done, sent=first: sent - done < settings.loop_window)  # type: ignore[misc]
        part = rows[first : first + POST]
        await post(loop, "events", entries(part, name, stream.ENTITIES))
        await post(loop, "labels", labels(part, name))
    await _wait(look, lambda done: done >= len(rows))
    return looks


async def _wait(look: Callable[[], Awaitable[int]], enough: Callable[[int], bool]) -> None:
    deadline = time.monotonic() + 120.0
    while not enough(await look()):
        if time.monotonic() > deadline:
            raise TimeoutError("the outcomes stand still")
        await asyncio.sleep(0.02)


async def _caught_up(at_work: Installation, loop: str, of_all: int, of_loop: int) -> float:
    """Seconds until monitoring has counted every outcome of the loop, and training has learned those of all loops."""
    started = time.perf_counter()

    async def done() -> bool:
        learned = await _learned(at_work)
        return learned >= of_all and (await at_work.status(loop)).get("outcomes", 0) >= of_loop

    await until(done, None, 120.0)
    return time.perf_counter() - started


async def _learned(at_work: Installation) -> float:
    text = (await at_work.client.get(f"{at_work.url('training')}/metrics")).text
    return sum(
        float(line.split()[-1]) for line in text.splitlines() if line.startswith("everloop_training_outcomes_total")
    )
