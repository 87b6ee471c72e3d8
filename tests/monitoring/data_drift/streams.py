"""Streams of predictions for a watch, with a change of one feature on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

from tests.builders.events import outcome_observed, prediction_made
from tests.builders.loops import NOW, loop_spec

from everloop_monitoring.domain.data_drift.watch import DriftWatch
from everloop_monitoring.domain.state import CountedOutcome
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.envelope import Event, Fields, Scalar
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.serving import PredictionMade

CHAMPION = "logistic-0@30"
SPEC: dict[str, Any] = {
    "schema": {"price": {"type": "number"}, "demand": {"type": "number"}, "plan": {"type": "string"}},
    "monitor": {"drift": "all"},
}
EVERY, LATER = timedelta(milliseconds=10), NOW + timedelta(days=1)
Change = Callable[[Fields], Fields]


def features(n: int, seed: int = 1, correlation: float = 0.0) -> Iterator[Fields]:
    """Two numbers, each like the one before it as far as `correlation` says, and one of four categories."""
    rng, price, demand = Random(seed), 0.0, 0.0
    for _ in range(n):
        price, demand = correlation * price + rng.gauss(0, 1), correlation * demand + rng.gauss(0, 1)
        yield {"price": price, "demand": demand, "plan": rng.choice(["gold", "silver", "free", "free"])}


def changed(stream: Iterable[Fields], at: int, change: Change) -> Iterator[Fields]:
    """The stream, changed from a row on."""
    for i, row in enumerate(stream):
        yield change(dict(row)) if i >= at else row


def predictions(stream: Iterable[Fields], first: int = 0, **fields: Any) -> Iterator[PredictionMade]:
    """A prediction of each row, true where the price is above 0."""
    for i, row in enumerate(stream, first):
        above = float(row["price"] or 0) > 0 if not isinstance(row["price"], str) else False
        given = {"version": CHAMPION, "role": "champion", "time": NOW + i * EVERY, **fields}
        yield prediction_made(f"p{i}", given.pop("prediction", above), features=row, **given)


def drift_watch(**spec: Any) -> DriftWatch:
    """A new watch of a loop with three fields."""
    return DriftWatch().follow(loop_spec(**{**SPEC, **spec}))


def drifts(watch: DriftWatch, events: Iterable[PredictionMade]) -> list[tuple[int, DriftDetected]]:
    """The drifts that predictions show, each with the number of predictions before it."""
    return [(i, told) for i, event in enumerate(events) for told in _drifts(watch.add_prediction(event, LATER))]


def label_drifts(
    watch: DriftWatch, labels: Iterable[Scalar | None], offset: int = 0, **fields: Any
) -> list[tuple[int, DriftDetected]]:
    """The drifts that labels show; the first has this offset."""
    found = []
    for i, label in enumerate(labels, offset):
        event = outcome_observed(f"o{i}", label, **{"version": CHAMPION, "role": "champion", **fields})
        counted = CountedOutcome(offset=i, label=label, correction=0, no_change=False, majority=False)
        found += [(i, told) for told in _drifts(watch.add_outcome(WatchedOutcome(event, i, None, counted), NOW))]
    return found


def _drifts(events: Iterable[Event]) -> Iterator[DriftDetected]:
    for event in events:
        assert isinstance(event, DriftDetected)
        yield event
