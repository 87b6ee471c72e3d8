"""Metrics of classes: how often a class is hit, missed, and predicted where it is not.

The label `true` is what binary metrics are about. Of more classes they are the plain mean over those that labels had
(macro averages, as scikit-learn has them, which also counts classes that were predicted only).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from math import fsum

from everloop_metrics.inputs import MetricInput, class_name
from everloop_schemas.envelope import Scalar

Parts = list[tuple[str, int]]
Counts = Mapping[str, int]
ScoreOfClass = Callable[[str, Counts], float | None]
MAX_NAME_CHARACTERS = 100
"""Of a class; of a longer name the beginning and a digest are kept."""
BINARY = frozenset(("true", "false"))


def short_name(label: Scalar) -> str:
    """The name of a class, at most `MAX_NAME_CHARACTERS`."""
    name = class_name(label)
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    return f"{name[:60]} {blake2b(name.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"


def mistake(one: MetricInput) -> Parts:
    """For `accuracy`."""
    return [("n", 1), ("wrong", int(one.label != one.value))]


def accuracy(counts: Counts) -> float | None:
    """The share of right ones."""
    return 1 - counts.get("wrong", 0) / counts["n"] if counts.get("n") else None


def confusion(one: MetricInput) -> Parts:
    """For all other metrics of classes."""
    label, value = short_name(one.label), short_name(one.value)
    return [(f"hit {label}", 1)] if label == value else [(f"missed {label}", 1), (f"false {value}", 1)]


def f1(counts: Counts) -> float | None:
    """The harmonic mean of precision and recall (van Rijsbergen 1979): of `true`, or the mean over classes.

    Without a positive label it is undefined, because no prediction could have had an F1 above 0.
    """
    return _of_true(_f1_of, counts) if _labels(counts) <= BINARY else f1_macro(counts)


def f1_macro(counts: Counts) -> float | None:
    """The mean F1 over the classes that labels had."""
    return _mean_over_classes(_f1_of, counts)


def precision(counts: Counts) -> float | None:
    """The share of right ones among the predictions of `true`, undefined without any; or the mean over classes."""
    return _precision_of("true", counts) if _labels(counts) <= BINARY else _mean_over_classes(_precision_of, counts)


def recall(counts: Counts) -> float | None:
    """The share of found ones among the labels `true`, undefined without any; or the mean over classes."""
    return _of_true(_recall_of, counts) if _labels(counts) <= BINARY else balanced_accuracy(counts)


def balanced_accuracy(counts: Counts) -> float | None:
    """The mean recall over the classes that labels had (Brodersen et al. 2010)."""
    return _mean_over_classes(_recall_of, counts)


def _labels(counts: Counts) -> set[str]:
    return {name.partition(" ")[2] for name, n in counts.items() if n and name.startswith(("hit ", "missed "))}


def _of_true(score: ScoreOfClass, counts: Counts) -> float | None:
    return score("true", counts) if "true" in _labels(counts) else None


def _mean_over_classes(score: ScoreOfClass, counts: Counts) -> float | None:
    labels = _labels(counts)
    return fsum(score(name, counts) or 0.0 for name in labels) / len(labels) if labels else None  # in any order alike


def _f1_of(name: str, counts: Counts) -> float | None:
    hits, wrong = counts.get(f"hit {name}", 0), counts.get(f"missed {name}", 0) + counts.get(f"false {name}", 0)
    return 2 * hits / (2 * hits + wrong) if hits or wrong else None


def _precision_of(name: str, counts: Counts) -> float | None:
    hits, wrong = counts.get(f"hit {name}", 0), counts.get(f"false {name}", 0)
    return hits / (hits + wrong) if hits or wrong else None


def _recall_of(name: str, counts: Counts) -> float | None:
    hits, missed = counts.get(f"hit {name}", 0), counts.get(f"missed {name}", 0)
    return hits / (hits + missed) if hits or missed else None
