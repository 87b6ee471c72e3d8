"""`python -m tests.bench.pairs --old PYTHON`: the whole loop of two releases, in turn, in one run.

Both releases run on one broker, and the load goes to one at a time: old, new, new, old. So whatever the machine does
meanwhile happens to both, and the ratio within a pair is that of the code. PYTHON is the interpreter of a checkout of
the old release with what `make test` installs, for instance of a `git worktree`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table
from tests.bench.bus import Bus, connected
from tests.bench.installation import Installation, installation_of
from tests.bench.loop import Meter, flow, warm
from tests.bench.settings import Settings

from everloop.local.kafka import start_broker

ALL = "all of it"
QUIET_S = 1.0
"""Between two runs, so that the one before has ended everywhere."""


@dataclass(frozen=True)
class Run:
    """Observations per second, and microseconds of CPU per observation by service."""

    rate: float
    cpu_us: dict[str, float]


@dataclass
class Side:
    """One of the two releases at work."""

    installation: Installation
    bus: Bus
    loop: str
    flowed: int = 0

    async def run(self, settings: Settings) -> Run:
        """Let the observations of one run flow."""
        meter, count = Meter(self.installation, settings.broker_pid), settings.loop_observations
        before, started = meter.cpu_s(), time.perf_counter()
        await flow(settings, self.installation, self.bus, self.loop, self.flowed)
        took = time.perf_counter() - started
        self.flowed += count
        used = {name: 1e6 * (after - before[name]) / count for name, after in meter.cpu_s().items()}
        return Run(count / took, used | {ALL: sum(used.values())})


async def compare(old: str, settings: Settings, pairs: int, console: Console) -> list[tuple[Run, Run]]:
    """Runs of the old and the new release by pairs; in half of them the new release was started first.

    The one that came second pays some percent more for each observation, whatever its code.
    """
    found = list[tuple[Run, Run]]()
    for turn, count in enumerate((pairs - pairs // 2, pairs // 2)):
        pythons = (old, sys.executable) if turn == 0 else (sys.executable, old)
        async for first, second in _in_turn(pythons, replace(settings, folder=settings.folder / f"{turn}"), count):
            found.append((first, second) if turn == 0 else (second, first))
            a, b = found[-1]
            console.print(f"pair {len(found)}: {a.rate:.0f} and {b.rate:.0f} observations/s")
    return found


async def _in_turn(pythons: tuple[str, str], settings: Settings, pairs: int) -> AsyncIterator[tuple[Run, Run]]:
    """Pairs of runs of two installations on one broker, the first started before the second."""
    broker = await start_broker(settings.folder / "broker")
    settings = replace(settings, bootstrap=broker.bootstrap, broker_pid=broker.pid)
    try:
        async with (
            installation_of(pythons[0], settings.folder / "a", broker.bootstrap, "a.") as a,
            installation_of(pythons[1], settings.folder / "b", broker.bootstrap, "b.") as b,
            connected(broker.bootstrap, a.prefix) as a_bus,
            connected(broker.bootstrap, b.prefix) as b_bus,
        ):
            sides = [Side(h, bus, await warm(settings, h)) for h, bus in ((a, a_bus), (b, b_bus))]
            for number in range(pairs):
                runs = dict[int, Run]()
                for which in ((0, 1), (1, 0))[number % 2]:
                    runs[which] = await sides[which].run(settings)
                    await asyncio.sleep(QUIET_S)
                yield runs[0], runs[1]
    finally:
        await broker.stop()


def table(found: Sequence[tuple[Run, Run]]) -> Table:
    """Medians of both, and the median of the pairs' ratios."""
    shown = Table("figure", "old", "new", "new / old", "quartiles of the ratio", title="Two releases, by pairs")
    rates = [(a.rate, b.rate) for a, b in found]
    costs = {name: [(a.cpu_us[name], b.cpu_us[name]) for a, b in found] for name in found[0][0].cpu_us}
    for name, values in {"observations/s": rates, **{f"CPU us/observation, {n}": v for n, v in costs.items()}}.items():
        ratios = sorted(new / old for old, new in values)
        low, high = ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]
        middle = [median(side) for side in zip(*values, strict=True)]
        shown.add_row(name, *(f"{m:.0f}" for m in middle), f"{median(ratios):.3f}", f"{low:.3f} to {high:.3f}")
    return shown


def main(argv: Sequence[str]) -> int:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pairs", description=__doc__)
    parser.add_argument("--old", required=True, metavar="PYTHON", help="the interpreter of the old release's checkout")
    parser.add_argument("--pairs", type=int, default=20, help="how many (default 20, of about 20 s each)")
    parser.add_argument("--observations", type=int, default=3_000, help="in each run (default 3,000)")
    chosen = parser.parse_args(argv)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console(width=120 if not sys.stdout.isatty() else None)
    with tempfile.TemporaryDirectory(prefix="everloop-pairs-", ignore_cleanup_errors=True) as folder:
        settings = replace(Settings(), loop_observations=chosen.observations, folder=Path(folder))
        console.print(table(asyncio.run(compare(chosen.old, settings, chosen.pairs, console))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
