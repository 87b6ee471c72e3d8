"""`python -m tests.bench.personal`: what one personal field of five costs an observation, in microseconds of CPU.

Each service handles the same observations with and without a personal field, in turn, in one process: plain, personal,
personal, plain. So whatever the machine does meanwhile happens to both. The median of the differences counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from tests.builders.events import observation
from tests.builders.loops import LOOP, NOW, loop_spec, loop_state
from tests.builders.personal import personal_settings, vault_of
from tests.feature.entity_harness import entity_handlers
from tests.serving.conftest import RunningServing

from everloop_feature.domain.loops import ActiveLoops
from everloop_ingest.domain.documents import Entry
from everloop_ingest.handlers import Handlers, Sealing
from everloop_learning.loops import KnownLoops
from everloop_schemas.loop import LoopSpec
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import Position

FIELDS = ("price", "demand", "income", "age", "days")
ENTITIES, ROWS = 50, 500
Run = Callable[[int], Awaitable[None]]
"""Handles one batch of `ROWS` observations, whose ids begin with this number."""


def spec_of(personal: bool) -> LoopSpec:
    """Five numbers and the mean of one of them, which is personal or not."""
    schema = {name: {"type": "number"} for name in FIELDS}
    marked = {**schema, "income": {"type": "number", "personal": personal}}
    return loop_spec(
        schema=marked, features=[{"fields": "all"}, {"name": "mean", "mean": "income", "over": "9 events"}]
    )


def row_of(n: int) -> dict[str, float]:
    """The fields of an observation."""
    return {name: 1.5 + n + i for i, name in enumerate(FIELDS)}


async def ingest(folder: Path, personal: bool) -> Run:
    """Ingest, from read entries to what is published."""
    loops = KnownLoops()
    loops.apply(loop_state(spec_of(personal)))
    handlers = Handlers(loops, Sealing(loops, vault_of(folder)), lambda: NOW, 1_000_000)

    async def run(first: int) -> None:
        entries = [Entry({"id": f"e{first + n}", "entity": f"e{n % ENTITIES}", "data": row_of(n)}) for n in range(ROWS)]
        checked = handlers.check_entries(LOOP, "events", entries, None)
        await handlers.seal(LOOP, checked)
        for event in checked.events:
            event.encode()

    return run


async def feature(folder: Path, personal: bool) -> Run:
    """Feature, from a decoded observation to the encoded vector and state."""
    loops, vault, spec = ActiveLoops(), vault_of(folder), spec_of(personal)
    loops.apply(loop_state(spec))
    handlers = entity_handlers(loops, KeyedStore("entities"), vault)

    async def run(first: int) -> None:
        for n in range(ROWS):
            clear = observation(f"e{first + n}", row_of(n), f"e{n % ENTITIES}")
            event = type(clear).decode((await vault.seal_event(clear, spec.personal_fields)).encode())
            started = time.process_time()
            at = Position(clear.topic.name, 0, first + n)
            for caused in await handlers.on_event_received(event, at):
                caused.encode()
            SPENT[0] += time.process_time() - started

    return run


SPENT = [0.0]
"""Seconds of CPU of the part of a run that counts, where not all of it does."""


async def serving(folder: Path, personal: bool) -> Run:
    """Serving by REST, lists of `ROWS`, without the delivery."""
    running = RunningServing(folder)
    schema = {"price": {"type": "number"}, "demand": {"type": "number", "personal": personal}}
    await running.publish(running.state(spec={"schema": schema}))
    service = await running.start(**personal_settings(folder))
    await running.until(lambda: service.not_ready() is None)
    RUNNING.append(running)

    async def run(first: int) -> None:
        rows = [
            {"id": f"e{first + n}", "entity": f"e{n % ENTITIES}", "data": {"price": n + 0.5, "demand": n + 0.25}}
            for n in range(ROWS)
        ]
        body = json.dumps(rows)
        started = time.process_time()
        answer = await running.client.post(
            "/v1/loops/market/predict", content=body, headers={"content-type": "application/json"}
        )
        SPENT[0] += time.process_time() - started
        assert answer.status_code == 200, answer.text

    return run


RUNNING: list[RunningServing] = []


async def cost_us(run: Run, first: int) -> float:
    """Microseconds of CPU of an observation."""
    SPENT[0], started = 0.0, time.process_time()
    await run(first)
    return 1e6 * (SPENT[0] or time.process_time() - started) / ROWS


async def measure(make: Callable[[Path, bool], Awaitable[Run]], folder: Path, rounds: int) -> tuple[float, float]:
    """Microseconds without and with the personal field, medians of the rounds."""
    folders = [folder / "plain", folder / "personal"]
    for one in folders:
        one.mkdir(parents=True)
    runs = [await make(one, personal) for one, personal in zip(folders, (False, True), strict=True)]
    found: tuple[list[float], list[float]] = ([], [])
    for turn in range(-1, rounds):  # the first one warms up
        for side in (0, 1, 1, 0):
            cost = await cost_us(runs[side], (10 * turn + len(found[side])) * 1_000_000 + turn * ROWS)
            if turn >= 0:
                found[side].append(cost)
    for running in RUNNING:
        await running.stop()
    RUNNING.clear()
    return median(found[0]), median(found[1])


async def main(argv: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.personal", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds, table = parser.parse_args(argv).rounds, Table("service", "plain, us", "one personal field, us", "more, us")
    with tempfile.TemporaryDirectory() as folder:
        for make in (ingest, feature, serving):
            plain, personal = await measure(make, Path(folder) / make.__name__, rounds)
            table.add_row(make.__name__, f"{plain:.0f}", f"{personal:.0f}", f"{personal - plain:.0f}")
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
