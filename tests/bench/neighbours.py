"""What one caller notices of another who sends predictions as fast as it can, with limits per caller and without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple

from tests.access import add_key
from tests.bench import stream
from tests.bench.bus import topics
from tests.bench.figures import Figure, at_most
from tests.bench.rest import PATH, TOPICS, Load, answered_by, bodies, generating, in_turn, load
from tests.bench.settings import Settings
from tests.bench.subject import Subject, service

from everloop_shared.access.limits import Limits

NOISY_CONNECTIONS, CALM_CONNECTIONS = 32, 1
LIMIT_PER_S = 100
P99_RATIO = 2.0
SETTLED_S = 1.0
"""The start of a process takes CPU of its own, and its first requests are a burst."""


class Callers(NamedTuple):
    """Tokens: of somebody who is not limited and measured, of a noisy one who is, and of one who is not."""

    calm: str
    limited: str
    free: str


async def measure(settings: Settings) -> list[Figure]:
    """One connection alone, beside 32 of a caller with a limit, and beside 32 of one without, in turn."""
    count = settings.rest_requests // 2
    async with _served(settings) as (subject, callers):
        calm = partial(load, subject, PATH, CALM_CONNECTIONS, count, bodies(), callers.calm)

        async def beside(token: str) -> Load:
            async with generating(subject, PATH, NOISY_CONNECTIONS, 0, bodies(), token):
                await asyncio.sleep(SETTLED_S)
                return await calm()

        alone, limited, free = await in_turn(
            settings, calm, partial(beside, callers.limited), partial(beside, callers.free)
        )
    what = f"REST, p99 beside {NOISY_CONNECTIONS} noisy connections"
    note = f"p99 alone {_p99_ms(alone):.2f} ms, beside them {_p99_ms(limited):.2f}, without limits {_p99_ms(free):.2f}"
    return [
        at_most(f"{what} of a caller limited to {LIMIT_PER_S}/s", _ratios(limited, alone), P99_RATIO, "times", note),
        at_most(f"{what} of a caller without a limit", _ratios(free, alone), None, "times"),
        at_most("REST, beside a noisy caller, failed", [sum(one.failed for one in limited)], 0.0, "requests"),
    ]


def _ratios(beside: list[Load], alone: list[Load]) -> list[float]:
    return [b.p99_us / a.p99_us for b, a in zip(beside, alone, strict=True)]


def _p99_ms(loads: list[Load]) -> float:
    return sorted(one.p99_us for one in loads)[len(loads) // 2] / 1000


@asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[tuple[Subject, Callers]]:
    """Serving with a limit for every caller, but for keys that have limits of their own."""
    prefix = "neighbours."
    folder = settings.folder / prefix
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "keys.json"
    callers = Callers(
        calm=add_key(file, "calm", "predictor", limits=Limits(requests_per_s=1_000_000)),
        limited=add_key(file, "limited", "predictor"),
        free=add_key(file, "free", "predictor", limits=Limits()),
    )
    async with topics(settings.bootstrap, prefix, *TOPICS) as bus:
        champion = stream.champion(folder)
        await bus.put(stream.state(champion=champion))
        limits = {"auth": "on", "auth_keys": file, "limit_requests_per_s": LIMIT_PER_S}
        async with service("serving", settings.bootstrap, prefix, folder, **limits) as subject:
            await subject.ready()
            await answered_by(subject, champion.version, callers.calm)
            yield subject, callers
