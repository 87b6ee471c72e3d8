"""Known drifts of features: how late they are told, of which feature, and how often where there is none.

`python -m tests.bench.drift` prints the table of all detectors, with `--evidently PYTHON` (of an environment with it)
of Evidently too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from tests.bench.drift_detectors import DETECTORS, Detect, Told, monitoring
from tests.bench.drift_streams import FAULTS, MOVING, STEADY, STREAMS, UNSEEN, KnownStream, culprits, with_fault
from tests.bench.figures import Figure, at_most
from tests.bench.settings import Settings

from everloop_schemas.envelope import Fields

REFERENCE, ONSET, AFTER = 1_000, 2_000, 1_500
"""Rows: what is usual, the row of the fault, and how long it lasts."""
WINDOW, EVERY = 500, 250
"""Evidently compares so many rows at a time, and is asked again after so many."""
COST_GOAL_US = 10.0
OURS, BARE = "Everloop", "River ADWIN"


@dataclass
class Faults:
    """What was told of the same faults: each delay in rows, and how often the cause was named first."""

    runs: int = 0
    delays: list[int] = field(default_factory=list)
    named: int = 0

    def add(self, told: Iterable[Told], causes: tuple[str, ...]) -> None:
        """Add one run."""
        self.runs += 1
        first = next((one for one in told if one.row >= ONSET), None)
        if first is not None:
            self.delays.append(first.row - ONSET)
            self.named += first.feature in causes


def faults_of(detect: Detect, seeds: int) -> dict[tuple[str, str], Faults]:
    """By stream and fault, what is told of the faults of so many seeds."""
    found = dict[tuple[str, str], Faults]()
    for known in STREAMS:
        for fault in FAULTS:
            if (known.name, fault) in UNSEEN:
                continue
            of = found[known.name, fault] = Faults()
            for seed in range(seeds):
                of.add(detect(with_fault(known, fault, seed, ONSET + AFTER, ONSET)), culprits(known, fault))
    return found


def false_alarms(detect: Detect, rows: int) -> dict[str, float]:
    """By stream without drift, the drifts that are told in 10,000 rows."""
    return {known.name: told_per_10_000(detect, known, rows) for known in STEADY}


def told_per_10_000(detect: Detect, known: KnownStream, rows: int) -> float:
    """The drifts that are told in 10,000 rows of a stream."""
    return 1e4 * sum(1 for _ in detect(known.rows(0, rows))) / rows


async def measure(settings: Settings) -> list[Figure]:
    """Ours beside River's ADWIN, by fault over all streams; false alarms; and the cost of a feature and prediction."""
    return await asyncio.to_thread(_measure, settings)


def _measure(settings: Settings) -> list[Figure]:
    figures = []
    found = {name: faults_of(DETECTORS[name], settings.drift_seeds) for name in (OURS, BARE)}
    for fault in FAULTS:
        ours, bare = (_joined(found[name], fault) for name in (OURS, BARE))
        name = f"drift, a sensor {fault}: named first, of those that there are (bare: River's ADWIN for each feature)"
        note = f"told: {len(ours.delays)} and {len(bare.delays)} of {ours.runs}; rows until then {_delay(ours)} and "
        note += _delay(bare)
        figures.append(Figure(name, _share(ours), "share", bare=_share(bare), note=note))
    alarms = [false_alarms(DETECTORS[name], settings.drift_rows) for name in (OURS, BARE)]
    for stream in alarms[0]:
        name = f"drift, {stream} without drift: false alarms per 10,000 rows"
        figures.append(Figure(name, alarms[0][stream], "alarms", bare=alarms[1][stream]))
    cost = [_cost_us(seed) for seed in range(settings.runs)]
    figures.append(at_most("drift, CPU of the watch a feature and prediction", cost, COST_GOAL_US, "us"))
    return figures


def _joined(found: dict[tuple[str, str], Faults], fault: str) -> Faults:
    parts = [of for (_, named), of in found.items() if named == fault]
    delays = [delay for of in parts for delay in of.delays]
    return Faults(sum(of.runs for of in parts), delays, sum(of.named for of in parts))


def _share(of: Faults) -> float:
    return of.named / of.runs if of.runs else 0.0


def _delay(of: Faults) -> str:
    return f"{median(of.delays):,.0f}" if of.delays else "-"


def _cost_us(seed: int) -> float:
    rows = list(STREAMS[2].rows(seed, ONSET))
    started = time.process_time()
    for _ in monitoring(rows):
        pass
    return 1e6 * (time.process_time() - started) / len(rows) / len(rows[0])


def evidently(python: Path, whole: bool) -> Detect:
    """Evidently in an environment of its own; `whole`: what it calls a drift of the data set, else of any column."""

    def detect(rows: Iterable[Fields]) -> Iterator[Told]:
        task = {"rows": list(rows), "reference": REFERENCE, "window": WINDOW, "every": EVERY}
        program = Path(__file__).with_name("evidently_drift.py")
        done = subprocess.run([python, program], input=json.dumps(task), capture_output=True, text=True, check=True)
        for one in json.loads(done.stdout):
            if one["feature"] and (one["whole"] or not whole):
                yield Told(one["row"], one["feature"])

    return detect


def main() -> None:
    """Print the table of all detectors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evidently", type=Path, help="the Python of an environment with Evidently")
    parser.add_argument("--seeds", type=int, default=Settings().drift_seeds)
    parser.add_argument("--rows", type=int, default=Settings().drift_rows)
    chosen = parser.parse_args()
    detectors, console = dict(DETECTORS), Console(width=200, highlight=False)
    if chosen.evidently:
        detectors["Evidently, any column"] = evidently(chosen.evidently, whole=False)
        detectors["Evidently, data set"] = evidently(chosen.evidently, whole=True)
    steady = [known.name for known in (*STEADY, MOVING)]
    console.print("| detector | " + " | ".join((*FAULTS, *steady)) + " |")
    console.print("|---" * (1 + len(FAULTS) + len(steady)) + "|")
    for name, detect in detectors.items():
        found = faults_of(detect, chosen.seeds)
        parts = [_joined(found, fault) for fault in FAULTS]
        cells = [f"{len(of.delays)} of {of.runs}, {_delay(of)}, {of.named}" for of in parts]
        alarms = false_alarms(detect, chosen.rows)
        alarms[MOVING.name] = told_per_10_000(detect, MOVING, chosen.rows)
        console.print(
            f"| {name} | " + " | ".join(cells) + " | " + " | ".join(f"{n:.2g}" for n in alarms.values()) + " |"
        )


if __name__ == "__main__":
    main()
