"""Streams with a known drift: a sensor that goes wrong at a known row, of generated data and of electricity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from river.datasets import synth
from tests.bench import stream

from everloop_schemas.envelope import Fields

Change = Callable[[Fields], Fields]
MARKET_SENSORS = ("nswdemand", "nswprice")
FAULTS = ("stuck", "scaled", "missing", "swapped")
SCALE = 2.0
UNSEEN = {("SEA", "swapped")}
"""Its features have one distribution, so that a swap changes none of them."""
STRIDE = 4_000
"""Rows of the market between the starts of two of its streams."""


@dataclass(frozen=True)
class KnownStream:
    """Rows, and the two sensors of which the first goes wrong, or is swapped with the second."""

    name: str
    rows: Callable[[int, int], Iterator[Fields]]
    sensors: tuple[str, str]


def sea(seed: int, count: int) -> Iterator[Fields]:
    """Three independent numbers (Street and Kim 2001)."""
    for features, _ in islice(synth.SEA(variant=0, seed=seed), count):
        yield {f"x{name}": float(value) for name, value in features.items()}


def agrawal(seed: int, count: int) -> Iterator[Fields]:
    """Nine numbers of loan applicants, some of them whole (Agrawal et al. 1993)."""
    for features, _ in islice(synth.Agrawal(classification_function=0, seed=seed), count):
        yield {str(name): float(value) for name, value in features.items()}


def market(seed: int, count: int) -> Iterator[Fields]:
    """The electricity market in its order, from another row on for each seed: a stream that never stands still."""
    rows = stream.market()
    for i in range(count):
        yield dict(rows[(seed * STRIDE + i) % len(rows)][0])


def shuffled_market(seed: int, count: int) -> Iterator[Fields]:
    """The same rows in a random order, in which nothing drifts."""
    rng, rows = Random(seed), stream.market()
    for _ in range(count):
        yield dict(rng.choice(rows)[0])


STREAMS = (
    KnownStream("SEA", sea, ("x1", "x0")),
    KnownStream("Agrawal", agrawal, ("age", "loan")),
    KnownStream("electricity", market, MARKET_SENSORS),
)
STEADY = (*STREAMS[:2], KnownStream("electricity, shuffled", shuffled_market, MARKET_SENSORS))
MOVING = KnownStream("electricity, in order", market, MARKET_SENSORS)
"""What is told of it is not false: it moves by itself."""


def with_fault(known: KnownStream, fault: str, seed: int, count: int, onset: int) -> Iterator[Fields]:
    """The rows of a stream, whose sensor goes wrong at row `onset`."""
    first, second = known.sensors
    held: float | None = None
    for i, row in enumerate(known.rows(seed, count)):
        if i >= onset:
            value = float(row[first] or 0)
            held = value if held is None else held
            if fault == "swapped":
                row[first], row[second] = row[second], row[first]
            else:
                row[first] = {"stuck": held, "scaled": SCALE * value, "missing": None}[fault]
        yield row


def culprits(known: KnownStream, fault: str) -> tuple[str, ...]:
    """The features of which one is the cause."""
    return known.sensors if fault == "swapped" else known.sensors[:1]
