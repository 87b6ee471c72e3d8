"""Predictions by REST from two workers behind one port, against one: CPU per request, records delivered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tests.bench.figures import Figure, at_most
from tests.bench.rest import USUAL, in_turn, ours, ours_served
from tests.bench.settings import Settings

RATIO = 1.1
WORKERS = 2
LOOPS: dict[str, Mapping[str, object]] = {"": {"features": [{"fields": "all"}]}, ", a window": {}}
"""Without a window every worker predicts what arrives; with one, half of the rows belong to the other worker."""


async def measure(settings: Settings) -> list[Figure]:
    """Both answer the same requests in turn."""
    return [figure for name, changes in LOOPS.items() for figure in await _measure(settings, name, changes)]


async def _measure(settings: Settings, name: str, changes: Mapping[str, object]) -> list[Figure]:
    prefix = "workers-window." if name else "workers."
    async with (
        ours_served(settings, f"one-{prefix}", changes) as (single, single_bus),
        ours_served(settings, prefix, changes, serving_workers=WORKERS) as (shared, shared_bus),
    ):
        one, several = await in_turn(
            settings,
            partial(ours, single, single_bus, USUAL, settings.rest_requests),
            partial(ours, shared, shared_bus, USUAL, settings.rest_requests),
        )
    ratios = [s.cpu_us / o.cpu_us for o, s in zip(one, several, strict=True)]
    rates = [s.rate / o.rate for o, s in zip(one, several, strict=True)]
    what = f"REST, {WORKERS} workers against one{name}"
    return [
        at_most(f"{what}, CPU per request, delivered", ratios, RATIO, "times"),
        at_most(f"{what}, requests/s", rates, None, "times"),
    ]
