"""Known drifts of features and of concepts: how late they are told, and how often where there is none.

`python -m tests.bench.drift` prints the tables of all detectors, Evidently's too where its environment can be made.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from statistics import median

from rich.console import Console
from tests.bench import concepts
from tests.bench.drift_detectors import DETECTORS, Detect, Told, monitoring
from tests.bench.drift_streams import FAULTS, MOVING, STEADY, STREAMS, UNSEEN, KnownStream, culprits, with_fault
from tests.bench.evidently_peer import Evidently, evidently, find_peer
from tests.bench.figures import Figure, at_most
from tests.bench.settings import Settings

REFERENCE, ONSET, AFTER = 1_000, 2_000, 1_500
"""Rows: what is usual, the row of the fault, and how long it lasts."""
COST_GOAL_US = 10.0
OURS, BARE, PEER = "Everloop", "River ADWIN", "Evidently"
SLOW = (PEER, f"{PEER}, data set", "River KSWIN")
PEER_SEEDS, PEER_ROWS = 2, 4_000
"""Of those that are slow: how many seeds, and rows without drift."""


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


def faults_of(detect: Detect, seeds: range) -> dict[tuple[str, str], Faults]:
    """By stream and fault, what is told of the faults of these seeds."""
    found = dict[tuple[str, str], Faults]()
    for known in STREAMS:
        for fault in FAULTS:
            if (known.name, fault) in UNSEEN:
                continue
            of = found[known.name, fault] = Faults()
            for seed in seeds:
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
    with ExitStack() as stack:
        peer = find_peer(settings.quick)
        theirs = stack.enter_context(evidently(peer.python)) if peer.python else None
        figures = [*_fault_figures(settings, theirs), *_concept_figures(settings, theirs)]
    if peer.why_not:
        figures = [replace(one, note=f"{one.note}; {peer.why_not}") if one.note else one for one in figures]
    cost = [_cost_us(seed) for seed in range(settings.runs)]
    return [*figures, at_most("drift, CPU of the watch a feature and prediction", cost, COST_GOAL_US, "us")]


def _fault_figures(settings: Settings, theirs: Evidently | None) -> list[Figure]:
    figures, seeds = [], range(settings.drift_seeds)
    found = {name: faults_of(DETECTORS[name], seeds) for name in (OURS, BARE)}
    if theirs:
        found[PEER] = faults_of(theirs.any_column, seeds[:PEER_SEEDS])
    for fault in FAULTS:
        joined = {name: _joined(of, fault) for name, of in found.items()}
        name = f"drift, a sensor {fault}: named first, of those that there are (bare: River's ADWIN for each feature)"
        note = "; ".join(f"{name}: told {_told(of)}" for name, of in joined.items())
        figures.append(Figure(name, _share(joined[OURS]), "share", bare=_share(joined[BARE]), note=note))
    alarms = [false_alarms(DETECTORS[name], settings.drift_rows) for name in (OURS, BARE)]
    for stream in alarms[0]:
        name = f"drift, {stream} without drift: false alarms per 10,000 rows"
        figures.append(Figure(name, alarms[0][stream], "alarms", bare=alarms[1][stream]))
    return figures


def _concept_figures(settings: Settings, theirs: Evidently | None) -> list[Figure]:
    detectors, figures = {name: concepts.DETECTORS[name] for name in (OURS, BARE)}, []
    if theirs:
        detectors[PEER] = theirs.errors
    for change in concepts.CHANGES:
        found = {
            name: concepts.delays_of(detect, change, settings.drift_seeds if name != PEER else PEER_SEEDS)
            for name, detect in detectors.items()
        }
        shares = {name: len(of.rows) / of.runs for name, of in found.items()}
        note = "; ".join(f"{name}: told {_told(of)}" for name, of in found.items())
        name = f"drift of concept, {change.name}: told within {concepts.AFTER:,} rows (bare: River's ADWIN)"
        figures.append(Figure(name, shares[OURS], "share", bare=shares[BARE], note=note))
    for steady in concepts.STEADY:
        alarms = {n: concepts.false_alarms(detectors[n], steady, settings.drift_rows) for n in (OURS, BARE)}
        name = f"drift of concept, {steady.steady_name} without drift: false alarms per 10,000 rows"
        figures.append(Figure(name, alarms[OURS], "alarms", bare=alarms[BARE]))
    return figures


def _joined(found: Mapping[tuple[str, str], Faults], fault: str) -> Faults:
    parts = [of for (_, named), of in found.items() if named == fault]
    delays = [delay for of in parts for delay in of.delays]
    return Faults(sum(of.runs for of in parts), delays, sum(of.named for of in parts))


def _share(of: Faults) -> float:
    return of.named / of.runs if of.runs else 0.0


def _told(of: Faults | concepts.Delays) -> str:
    """How many were told, and the median number of rows until then."""
    delays = of.delays if isinstance(of, Faults) else of.rows
    return f"{len(delays)} of {of.runs}" + (f", {median(delays):,.0f}" if delays else "")


def _cost_us(seed: int) -> float:
    rows = list(STREAMS[2].rows(seed, ONSET))
    started = time.process_time()
    for _ in monitoring(rows):
        pass
    return 1e6 * (time.process_time() - started) / len(rows) / len(rows[0])


def _print_faults(console: Console, detectors: Mapping[str, Detect], seeds: range, rows: int) -> None:
    steady = [known.name for known in (*STEADY, MOVING)]
    _print_heads(console, [*FAULTS, *steady])
    for name, detect in detectors.items():
        less = name in SLOW
        found = faults_of(detect, seeds[: PEER_SEEDS if less else None])
        cells = [f"{_told(of)}, {of.named}" for of in (_joined(found, fault) for fault in FAULTS)]
        alarms = false_alarms(detect, PEER_ROWS if less else rows)
        alarms[MOVING.name] = told_per_10_000(detect, MOVING, PEER_ROWS if less else rows)
        console.print(f"| {name} | " + " | ".join([*cells, *(f"{n:.2g}" for n in alarms.values())]) + " |")


def _print_concepts(console: Console, detectors: Mapping[str, concepts.Detect], seeds: int, rows: int) -> None:
    _print_heads(console, [*(one.name for one in concepts.CHANGES), *(one.steady_name for one in concepts.STEADY)])
    for name, detect in detectors.items():
        less = name in SLOW
        cells = [_told(concepts.delays_of(detect, one, PEER_SEEDS if less else seeds)) for one in concepts.CHANGES]
        alarms = [concepts.false_alarms(detect, one, PEER_ROWS if less else rows) for one in concepts.STEADY]
        console.print(f"| {name} | " + " | ".join([*cells, *(f"{n:.2g}" for n in alarms)]) + " |")


def _print_heads(console: Console, heads: list[str]) -> None:
    console.print("\n| detector | " + " | ".join(heads) + " |")
    console.print("|---" * (1 + len(heads)) + "|")


def main() -> None:
    """Print the tables of all detectors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-evidently", action="store_true", help="without Evidently, which takes minutes")
    parser.add_argument("--seeds", type=int, default=Settings().drift_seeds)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=Settings().drift_rows)
    chosen = parser.parse_args()
    features, errors = dict(DETECTORS), dict(concepts.DETECTORS)
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    console = Console(width=400, highlight=False)
    with ExitStack() as stack:
        peer = find_peer(quick=chosen.no_evidently)
        if peer.python:
            theirs = stack.enter_context(evidently(peer.python))
            features |= {PEER: theirs.any_column, f"{PEER}, data set": theirs.data_set}
            errors[PEER] = theirs.errors
        else:
            sys.stderr.write(f"{peer.why_not}\n")
        _print_faults(console, features, seeds, chosen.rows)
        _print_concepts(console, errors, chosen.seeds, chosen.rows)


if __name__ == "__main__":
    main()
