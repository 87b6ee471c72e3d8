"""`everloop replay`: with its default options, and in lockstep with the loop of the demo."""

from __future__ import annotations

import json

from tests.bench import stream
from tests.bench.figures import Figure
from tests.bench.installation import Installation, installation
from tests.bench.settings import Settings

from everloop.demo.running import EXAMPLE

ROWS_PER_S, OUTCOMES_PER_S = 500.0, 100.0


async def measure(settings: Settings) -> list[Figure]:
    """The rates that the command itself reports, from the first row to the last answer."""
    if settings.installation:
        return await _measure(settings, settings.installation)
    async with installation(settings.folder / "replay", settings.bootstrap, "replay.") as own:
        return await _measure(settings, own)


async def _measure(settings: Settings, at_work: Installation) -> list[Figure]:
    await at_work.apply(stream.spec("replayed"))
    await at_work.everloop("apply", "-f", str(EXAMPLE / "loop.yaml"))
    rows = await _played(at_work, "replayed", settings.replay_rows)
    outcomes = await _played(at_work, "electricity", settings.lockstep_rows, "--lockstep")
    note = f"{settings.replay_rows:,} rows"
    return [
        _figure("everloop replay, default options", rows, "rows/s", ROWS_PER_S, note),
        _figure("everloop replay --lockstep, the demo's loop", outcomes, "outcomes/s", OUTCOMES_PER_S, ""),
    ]


def _figure(name: str, rate: float, unit: str, goal: float, note: str) -> Figure:
    return Figure(name, rate, unit, goal=f">= {goal:g}", met=rate >= goal, note=note)


async def _played(at_work: Installation, loop: str, rows: int, *options: str) -> float:
    """Rows per second."""
    command = ["replay", loop, str(stream.CSV), "--label-column", "class", "--limit", str(rows), "--json", *options]
    output = await at_work.everloop(*command)
    found, _ = json.JSONDecoder().raw_decode(output, output.index("{"))  # remarks may stand around it
    if found["accepted"] != rows:
        raise RuntimeError(f"{found['accepted']} of {rows} rows were accepted: {output}")
    return float(rows / found["seconds"])
