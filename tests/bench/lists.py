"""Predictions by REST, a list of observations in each request: CPU per row, records delivered."""

from __future__ import annotations

import json
from functools import partial

from tests.bench import stream
from tests.bench.figures import Figure, at_most
from tests.bench.rest import in_turn, ours, ours_served
from tests.bench.settings import Settings

ROWS = 100
CONNECTIONS = 4
CPU_US = 60.0
LISTS = 20


async def measure(settings: Settings) -> list[Figure]:
    """The same rows as those of the figure `rest`, a hundred to a request."""
    count = max(settings.rest_requests // ROWS, LISTS)
    async with ours_served(settings, "lists.") as (subject, bus):
        [found] = await in_turn(settings, partial(ours, subject, bus, CONNECTIONS, count, lists(), ROWS))
    what = f"REST, lists of {ROWS}"
    return [
        at_most(f"{what}, CPU per row, delivered", [one.cpu_us for one in found], CPU_US, "us"),
        at_most(f"{what}, failed", [sum(one.failed for one in found)], 0.0, "requests"),
        Figure(f"{what}, {CONNECTIONS} connections", max(one.rate for one in found) * ROWS, "rows/s"),
    ]


def lists() -> list[bytes]:
    """Request bodies: JSON lists over all entities."""
    rows = [{"entity": f"e{i % stream.ENTITIES}", "data": fields} for i, fields, _ in stream.rows(LISTS * ROWS)]
    return [json.dumps(rows[first : first + ROWS]).encode() for first in range(0, len(rows), ROWS)]
