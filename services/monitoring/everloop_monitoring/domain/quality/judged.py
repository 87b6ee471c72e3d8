"""What is kept of a prediction once its label is known, and what it adds to the sums of a group."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import NamedTuple

from everloop_metrics import MetricInput, brier_loss, class_name
from everloop_metrics.probabilities import RELIABILITY_BINS, clipped
from everloop_metrics.regression import relative_error, squares
from everloop_schemas.envelope import Scalar
from everloop_shared.arithmetic import bounded, distance, exact

UNITS = 10**9
"""Probabilities and what follows from them are summed up in whole billionths."""
STEPS_PER_E, MAX_LOG_ODDS = 8, 14.0
"""For ranks, log odds are rounded to this many steps per unit, and clipped: at most 450 counters a group."""
MAX_CLASSES = 20
OTHER, ANOTHER = MAX_CLASSES, MAX_CLASSES + 1
"""The place of the classes beyond `MAX_CLASSES`, and that of one of them that was predicted for another of them."""

Parts = list[tuple[str, int]]
Place = int | float
"""The place of a class among those of the loop, or a number."""


class Judged(NamedTuple):
    """A prediction without its label: its value, and what metrics take from its probabilities, in billionths.

    `chance` is the probability of `true`, of many classes that of the predicted one; `of_label` that of the label, and
    `brier` half the Brier score. All three are None for a number.
    """

    value: Place
    chance: int | None = None
    of_label: int | None = None
    brier: int | None = None


def judge(label: Scalar, place: int, value: Scalar, at: int, probabilities: Mapping[str, float] | None) -> Judged:
    """A prediction of classes, whose label and value have these places; without probabilities it is certain."""
    if at == place == OTHER and value != label:
        at = ANOTHER
    if not probabilities:
        return certain(place, at, isinstance(label, bool))
    chance = probabilities.get("true" if isinstance(label, bool) else class_name(value), 0.0)
    of_label = probabilities.get(class_name(label), 0.0)
    brier = brier_loss(label, probabilities)
    return Judged(at, _in_units(chance), _in_units(of_label), _in_units(brier))


def certain(label: int, value: int, is_binary: bool) -> Judged:
    """A prediction of classes that has no probabilities."""
    is_right = label == value
    return Judged(value, UNITS * (value == 1 or not is_binary), UNITS * is_right, UNITS * (not is_right))


def _in_units(share: float) -> int:
    return round(min(1.0, max(0.0, share)) * UNITS)


def parts_of_classes(label: int, judged: Judged, is_binary: bool) -> Parts:
    """What a prediction of classes adds to sums: its cell of the confusion matrix, rank, reliability and losses."""
    parts = [(f"c {label} {judged.value}", 1)]
    if judged.chance is None or judged.of_label is None or judged.brier is None:
        return parts
    chance = judged.chance / UNITS
    place = min(RELIABILITY_BINS - 1, int(chance * RELIABILITY_BINS))
    hit = label == 1 if is_binary else label == judged.value
    surprise = -log(clipped(judged.of_label / UNITS))
    if is_binary:
        near = clipped(chance)
        step = round(STEPS_PER_E * max(-MAX_LOG_ODDS, min(MAX_LOG_ODDS, log(near / (1 - near)))))
        parts.append((f"{'yes' if label == 1 else 'no'} {step}", 1))
    parts += (
        (f"n {place}", 1),
        (f"sure {place}", judged.chance),
        ("surprise", round(surprise * UNITS)),
        ("surprise2", round(surprise * surprise * UNITS)),
        ("brier", judged.brier),
    )
    return [*parts, (f"hit {place}", 1)] if hit else parts


def parts_of_number(label: float, judged: Judged) -> Parts:
    """What a prediction of a number adds to sums: how far it was below and above, squares, and its relative error."""
    one = MetricInput(label, judged.value)
    side = "below" if bounded(label) > bounded(judged.value) else "above"
    relative = [(f"relative {name}", amount) for name, amount in relative_error(one)]
    return [*squares(one), (side, exact(distance(label, judged.value))), *relative]


def place_of(classes: list[str], label: Scalar, joins: bool = True) -> int:
    """The place of a class, which `joins` them while there are fewer than `MAX_CLASSES`; OTHER if it is not there."""
    name = class_name(label)[:100]
    if name in classes:
        return classes.index(name)
    if not joins or len(classes) >= MAX_CLASSES:
        return OTHER
    classes.append(name)
    return len(classes) - 1
