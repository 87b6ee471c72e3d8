"""Known changes of concept of SEA and Agrawal: how late the rise of a model's error is told, and how often without one.

The errors are those of a model that is given each row, and learns it after it has predicted it, as a champion does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from river import compose, drift, linear_model, preprocessing, tree
from river.datasets import synth

from everloop_monitoring.domain.drift import DriftDetector

ONSET, AFTER = 5_000, 2_500
"""Rows: the first one of the new concept, and how many follow."""
AT_ONCE, SLOWLY = 1, 1_000
"""Over how many rows one concept replaces the other: from 2 % of the new one at row `ONSET` to half after so many."""
NOISE = 0.1
"""Of SEA, the share of labels that are wrong; of Agrawal, how far numbers are perturbed."""
Detect = Callable[[Sequence[int]], Iterator[int]]
"""The rows at which a detector tells a drift of these errors, each 0 or 1."""


@dataclass(frozen=True)
class Concepts:
    """A stream by its label function, the model that learns it, and the two functions of which the second comes."""

    name: str
    make: Callable[[int, int], Any]
    model: Callable[[], Any]
    before: int
    after: int
    width: int = AT_ONCE

    @property
    def steady_name(self) -> str:
        """The name of its first concept alone."""
        return self.name.partition(" to ")[0]

    def changing(self, seed: int) -> Any:
        """The stream whose concept changes."""
        streams = (self.make(self.before, seed), self.make(self.after, seed + 1_000))
        if self.width == AT_ONCE:  # River's ConceptDriftStream overflows so far from a change of one row
            return chain(islice(streams[0], ONSET), streams[1])
        return synth.ConceptDriftStream(*streams, position=ONSET + self.width, width=self.width, seed=seed)


def _sea(function: int, seed: int) -> Any:
    return synth.SEA(variant=function, noise=NOISE, seed=seed)


def _agrawal(function: int, seed: int) -> Any:
    return synth.Agrawal(classification_function=function, seed=seed, perturbation=NOISE)


def _linear() -> Any:
    return compose.Pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())


SEA_LARGE = Concepts("SEA, 9.5 to 7", _sea, _linear, 3, 2)
SEA_SMALL = Concepts("SEA, 8 to 9", _sea, _linear, 0, 1)
AGRAWAL = Concepts("Agrawal, function 1 to 3", _agrawal, tree.HoeffdingTreeClassifier, 0, 2)
AGRAWAL_SLOW = Concepts("Agrawal, 1 to 3 over 1,000 rows", _agrawal, tree.HoeffdingTreeClassifier, 0, 2, SLOWLY)
CHANGES = (SEA_LARGE, SEA_SMALL, AGRAWAL, AGRAWAL_SLOW)
STEADY = (SEA_LARGE, AGRAWAL)
"""Their first concepts, which go on, are without any drift."""


def errors_of(stream: Any, model: Any, count: int) -> tuple[int, ...]:
    """Whether the model is wrong on each row, which it learns after that."""
    found = []
    for features, label in islice(stream, count):
        found.append(int(model.predict_one(features) != label))
        model.learn_one(features, label)
    return tuple(found)


@lru_cache(200)
def changed_errors(concepts: Concepts, seed: int) -> tuple[int, ...]:
    """The errors on a stream whose concept changes at row `ONSET`."""
    return errors_of(concepts.changing(seed), concepts.model(), ONSET + AFTER)


@lru_cache(200)
def steady_errors(concepts: Concepts, seed: int, count: int) -> tuple[int, ...]:
    """The errors on a stream of one concept."""
    return errors_of(concepts.make(concepts.before, seed), concepts.model(), count)


def monitoring(errors: Sequence[int]) -> Iterator[int]:
    """Everloop's detector of the served error."""
    detector = DriftDetector()
    return (i for i, error in enumerate(errors) if detector.add(i, error))


def river(make: Callable[[], Any]) -> Detect:
    """A detector of River, which begins anew by itself after it has told a drift."""

    def detect(errors: Sequence[int]) -> Iterator[int]:
        detector = make()
        for i, error in enumerate(errors):
            detector.update(error)
            if detector.drift_detected:
                yield i

    return detect


DETECTORS: dict[str, Detect] = {
    "Everloop": monitoring,
    "River ADWIN": river(drift.ADWIN),
    "River HDDM-A": river(drift.binary.HDDMA),
    "River HDDM-W": river(drift.binary.HDDMW),
    "River PageHinkley": river(drift.PageHinkley),
    "River KSWIN": river(lambda: drift.KSWIN(seed=1)),
}


@dataclass
class Delays:
    """Of so many changes, after how many rows each was told that was told."""

    runs: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, told: Iterable[int]) -> None:
        """Add one run; what is told before the change is not its detection."""
        self.runs += 1
        first = next((row for row in told if row >= ONSET), None)
        if first is not None:
            self.rows.append(first - ONSET)


def delays_of(detect: Detect, concepts: Concepts, seeds: int) -> Delays:
    """How late the changes of so many seeds are told."""
    found = Delays()
    for seed in range(seeds):
        found.add(detect(changed_errors(concepts, seed)))
    return found


def false_alarms(detect: Detect, concepts: Concepts, rows: int) -> float:
    """The drifts that are told in 10,000 rows of one concept."""
    return 1e4 * sum(1 for _ in detect(steady_errors(concepts, 0, rows))) / rows
