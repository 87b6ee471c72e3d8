"""What a mistake costs by a metric of classes, so that the mean cost of two models says which has the better metric.

F1, precision and their means over classes are ratios of counts, no means over outcomes. A model has a higher ratio
than another one of value t where the mean of a cost that depends on t is lower (Parambath, Usunier and Grandvalet
2014, "Optimizing F-measures by cost-sensitive classification"). Here t is the value that the served predictions had on
earlier outcomes, so the cost of a mistake is fixed before the outcome is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from everloop_metrics import class_name
from everloop_schemas.envelope import Scalar

REMEMBERED_OUTCOMES = 2_000
"""When so many are counted, all counts are halved, so that the costs follow what is served now."""
MAX_CLASSES = 100
OTHER = "\x00other"
"""The classes after the first `MAX_CLASSES` count as this one."""
MAX_NAME_CHARACTERS = 100


@dataclass(slots=True)
class ClassCount:
    """Of one class: how often labels had it, predictions had it, and both."""

    labels: float = 0.0
    predictions: float = 0.0
    hits: float = 0.0

    @property
    def f1(self) -> float:
        """The class's F1; 0 before it occurred."""
        return 2 * self.hits / (self.labels + self.predictions) if self.hits else 0.0

    @property
    def precision(self) -> float:
        """The class's precision; 0 before it was hit."""
        return self.hits / self.predictions if self.hits else 0.0


NONE = ClassCount()


@dataclass(slots=True)
class ClassCosts:
    """Counts of the served predictions by class; `cost` is what a mistake costs by a metric, in [0, 1]."""

    outcomes: float = 0.0
    classes: dict[str, ClassCount] = field(default_factory=dict)
    rarest: list[float] = field(default_factory=lambda: [1.0, 1.0, 1.0])

    def learn(self, label: Scalar, served: Scalar) -> None:
        """Count a labelled outcome and what was served on it."""
        truth, said = self._count_of(label), self._count_of(served)
        truth.labels += 1
        said.predictions += 1
        truth.hits += truth is said and label == served
        self.outcomes += 1
        if self.outcomes >= REMEMBERED_OUTCOMES:
            self._halve()
        counts = self.classes.values()
        self.rarest = [min(1 + c.labels for c in counts), min(1 + c.predictions for c in counts)]
        self.rarest.append(min(1 + c.labels + c.predictions for c in counts))

    def cost(self, metric: str, label: Scalar, wrong: Scalar) -> float:
        """The cost of predicting `wrong` for `label`; a right prediction costs nothing."""
        return min(1.0, _COSTS[metric](self, label, wrong))

    def of(self, label: Scalar) -> ClassCount:
        """The counts of a class."""
        return self.classes.get(self._key(label), NONE)

    def _key(self, label: Scalar) -> str:
        name = class_name(label)[:MAX_NAME_CHARACTERS]
        return name if name in self.classes or len(self.classes) < MAX_CLASSES else OTHER

    def _count_of(self, label: Scalar) -> ClassCount:
        return self.classes.setdefault(self._key(label), ClassCount())

    def _halve(self) -> None:
        self.outcomes /= 2
        for count in self.classes.values():
            count.labels, count.predictions, count.hits = count.labels / 2, count.predictions / 2, count.hits / 2


def _by_label(costs: ClassCosts, label: Scalar, wrong: Scalar) -> float:
    """Balanced accuracy: a label of a class weighs the more the rarer the class is; the rarest weighs 1."""
    return costs.rarest[0] / (1 + costs.of(label).labels)


def _recall(costs: ClassCosts, label: Scalar, wrong: Scalar) -> float:
    return float(label) if isinstance(label, bool) else _by_label(costs, label, wrong)


def _f1(costs: ClassCosts, label: Scalar, wrong: Scalar) -> float:
    """Of value t: a miss costs 1 - t / 2, a false alarm t / 2. Over classes: the first-order change of the mean."""
    if not isinstance(label, bool):
        return _f1_macro(costs, label, wrong)
    half = costs.of(True).f1 / 2
    return 1 - half if label else half


def _f1_macro(costs: ClassCosts, label: Scalar, wrong: Scalar) -> float:
    truth, said = costs.of(label), costs.of(wrong)
    missed = (2 - truth.f1) / (1 + truth.labels + truth.predictions)
    false = said.f1 / (1 + said.labels + said.predictions)
    return (missed + false) * costs.rarest[2] / 3


def _precision(costs: ClassCosts, label: Scalar, wrong: Scalar) -> float:
    """Of value t: a miss costs 1 - t, a false alarm t. Over classes: the first-order change of the mean."""
    if isinstance(label, bool):
        t = costs.of(True).precision
        return 1 - t if label else t
    truth, said = costs.of(label), costs.of(wrong)
    missed, false = (1 - truth.precision) / (1 + truth.predictions), said.precision / (1 + said.predictions)
    return (missed + false) * costs.rarest[1] / 2


_COSTS: dict[str, Callable[[ClassCosts, Scalar, Scalar], float]] = {
    "balanced_accuracy": _by_label,
    "recall": _recall,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "precision": _precision,
}
COSTED = frozenset(_COSTS)
"""The metrics by which mistakes cost differently."""
