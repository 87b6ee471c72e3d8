"""The sums of a group of predictions, and every metric of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import Any

from everloop_metrics import classes as of_classes
from everloop_metrics import probabilities, regression
from everloop_metrics.confidence import asymptotic_interval, bounded_interval
from everloop_monitoring.domain.quality.judged import ANOTHER, OTHER, UNITS, Parts, certain, parts_of_classes
from everloop_shared.arithmetic import mean

Score = float | None
Counts = Mapping[str, int]


@dataclass(slots=True)
class QualitySums:
    """Exact sums over the outcomes of a group from offset `since` on; `last` is the latest one."""

    since: int = 0
    last: int = -1
    outcomes: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, parts: Parts, sign: int = 1) -> None:
        """Add a prediction, or with sign -1 subtract it."""
        counts, get = self.counts, self.counts.get
        self.outcomes += sign
        for name, amount in parts:
            if left := get(name, 0) + sign * amount:
                counts[name] = left
            else:
                counts.pop(name, None)

    def merge(self, other: QualitySums) -> None:
        """Take in the sums of another group."""
        self.last = max(self.last, other.last)
        self.outcomes += other.outcomes
        for name, amount in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + amount


def metrics_of(sums: QualitySums, names: Iterable[str], classes: Sequence[str]) -> dict[str, Score]:
    """The metrics of these names, None where one is undefined."""
    if not classes:
        found = _of_numbers(sums)
    else:
        cells = _cells(sums.counts, classes)
        found = {**_of_cells(cells), **_of_probabilities(sums)}
    return {name: found.get(name) for name in names}


def intervals_of(sums: QualitySums, classes: Sequence[str]) -> dict[str, list[float]]:
    """Confidence sequences of the metrics that are means; the others have none."""
    found: dict[str, tuple[float, float] | None] = {}
    n, counts = sums.outcomes, sums.counts
    if not classes:
        total = counts.get("below", 0) + counts.get("above", 0)
        found["mae"] = asymptotic_interval(mean(total, n), mean(counts.get("error", 0), n), n) if n else None
    else:
        matrix = confusion(sums, classes)
        right = sum(row[i] for i, row in enumerate(matrix))
        found["accuracy"] = bounded_interval(right, n)
        if n and _has_probabilities(counts):
            found["brier"] = bounded_interval(counts.get("brier", 0) / UNITS, n)
            surprise, square = (counts.get(name, 0) / n / UNITS for name in ("surprise", "surprise2"))
            found["log_loss"] = asymptotic_interval(surprise, square, n)
        if tuple(classes) == ("false", "true"):
            found["precision"] = bounded_interval(matrix[1][1], matrix[0][1] + matrix[1][1])
            found["recall"] = bounded_interval(matrix[1][1], sum(matrix[1]))
    return {name: list(interval) for name, interval in found.items() if interval is not None}


def confusion(sums: QualitySums, classes: Sequence[str]) -> list[list[int]]:
    """Outcomes by class of the label (rows) and of the prediction, in the order of `names_of`."""
    size = len(names_of(sums, classes))
    matrix = [[0] * size for _ in range(size)]
    for key, n in sums.counts.items():
        if key.startswith("c "):
            _, label, value = key.split(" ")
            matrix[min(int(label), size - 1)][min(int(value), size - 1)] += n
    return matrix


def names_of(sums: QualitySums, classes: Sequence[str]) -> list[str]:
    """The classes, and behind them names for those beyond the limit where such occurred."""
    places = {int(place) for key in sums.counts if key.startswith("c ") for place in key.split(" ")[1:]}
    extra = ["other", "another"] if ANOTHER in places else ["other"] if OTHER in places else []
    return [*classes, *extra]


def reliability_of(sums: QualitySums) -> list[dict[str, Any]]:
    """The reliability curve: by bin of the predicted probability how often it was so."""
    width = 1 / probabilities.RELIABILITY_BINS
    return [
        {
            "from": round(one.place * width, 3),
            "to": round((one.place + 1) * width, 3),
            "n": one.n,
            "predicted": one.predicted,
            "observed": one.observed,
        }
        for one in probabilities.reliability_curve(sums.counts, UNITS)
    ]


def with_certainty(sums: QualitySums, is_binary: bool) -> QualitySums:
    """Sums of a confusion matrix alone, with what follows from its predictions without probabilities."""
    full = QualitySums()
    for key, n in sums.counts.items():
        _, label, value = key.split(" ")
        parts = parts_of_classes(int(label), certain(int(label), int(value), is_binary), is_binary)
        full.add([(name, amount * n) for name, amount in parts])
    full.outcomes = sums.outcomes
    return full


def constant_shares(sums: QualitySums) -> dict[str, Score]:
    """What predicting the share of each class as its probability has by metrics of probabilities, at best."""
    labels: dict[str, int] = {}
    for key, n in sums.counts.items():
        if key.startswith("c "):
            label = key.split(" ")[1]
            labels[label] = labels.get(label, 0) + n
    shares = [n / sums.outcomes for n in labels.values()] if sums.outcomes else []
    if not shares:
        return {}
    return {
        "log_loss": -sum(share * log(share) for share in shares),
        "brier": (1 - sum(share * share for share in shares)) / 2,
        "ece": 0.0,
        "roc_auc": 0.5 if len(shares) == 2 else None,
        "pr_auc": labels.get("1", 0) / sums.outcomes or None,
    }


def _has_probabilities(counts: Counts) -> bool:
    return any(key.startswith("n ") for key in counts)


def _cells(counts: Counts, classes: Sequence[str]) -> dict[str, int]:
    """Hits, misses and false ones by class, as metrics of classes count them."""
    names = [*classes, *[f"class {place}" for place in range(len(classes), ANOTHER + 1)]]
    cells: dict[str, int] = {}
    for key, n in counts.items():
        if key.startswith("c "):
            _, label, value = key.split(" ")
            truth, said = names[int(label)], names[int(value)]
            for cell in (f"hit {truth}",) if label == value else (f"missed {truth}", f"false {said}"):
                cells[cell] = cells.get(cell, 0) + n
    return cells


def _of_cells(cells: Counts) -> dict[str, Score]:
    hits = sum(n for name, n in cells.items() if name.startswith("hit "))
    missed = sum(n for name, n in cells.items() if name.startswith("missed "))
    return {
        "accuracy": hits / (hits + missed) if hits + missed else None,
        "balanced_accuracy": of_classes.balanced_accuracy(cells),
        "precision": of_classes.precision(cells),
        "recall": of_classes.recall(cells),
        "f1": of_classes.f1(cells),
        "f1_macro": of_classes.f1_macro(cells),
    }


def _of_probabilities(sums: QualitySums) -> dict[str, Score]:
    counts, n = sums.counts, sums.outcomes
    if not n or not _has_probabilities(counts):
        return {}
    ranks = {name: amount for name, amount in counts.items() if name.startswith(("yes ", "no "))}
    return {
        "roc_auc": probabilities.roc_auc(ranks),
        "pr_auc": probabilities.pr_auc(ranks),
        "log_loss": counts.get("surprise", 0) / UNITS / n,
        "brier": counts.get("brier", 0) / UNITS / n,
        "ece": probabilities.calibration_error(probabilities.reliability_curve(counts, UNITS)),
    }


def _of_numbers(sums: QualitySums) -> dict[str, Score]:
    counts, n = sums.counts, sums.outcomes
    if not n:
        return {}
    below, above = mean(counts.get("below", 0), n), mean(counts.get("above", 0), n)
    relative = {name: counts.get(f"relative {name}", 0) for name in ("n", "error")}
    return {
        "mae": below + above,
        "rmse": regression.root_error(counts),
        "r2": regression.r2(counts),
        "mape": regression.mean_error(relative),
        **{name: q * below + (1 - q) * above for name, q in regression.QUANTILES.items()},
    }
