"""Group measures are what a plain computation gives, and their intervals those of the papers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

import pytest

from everloop_metrics.fairness import COMPARED, MIN_OUTCOMES, Estimate, GroupSums, calibration_error, measure, rate

Rates = Mapping[str, tuple[float, float, float]]
"""By group: the share of true labels, and how often `true` is predicted at a true and at a false one."""
FAIR: Rates = {"a": (0.3, 0.8, 0.1), "b": (0.6, 0.8, 0.1)}
UNFAIR: Rates = {"a": (0.5, 0.9, 0.3), "b": (0.5, 0.5, 0.1), "c": (0.5, 0.7, 0.2)}


class Row(NamedTuple):
    """An outcome with the group it belongs to."""

    group: str
    label: bool
    predicted: bool
    probability: float


def rows(rates: Rates, n: int, seed: int = 1) -> list[Row]:
    random, made = Random(seed), []
    for _ in range(n):
        group = random.choice(sorted(rates))
        share, hit, miss = rates[group]
        label = random.random() < share
        predicted = random.random() < (hit if label else miss)
        made.append(Row(group, label, predicted, random.random()))
    return made


def sums_of(made: Sequence[Row]) -> dict[str, GroupSums]:
    sums = defaultdict[str, GroupSums](GroupSums)
    for row in made:
        sums[row.group].add(row.label, row.predicted, row.probability)
    return dict(sums)


def share(of: Sequence[bool]) -> float:
    return sum(of) / len(of)


def known(estimate: Estimate) -> tuple[float, float, float]:
    """Low, value and high of a measure that is known."""
    assert None not in estimate
    return estimate.low or 0.0, estimate.value or 0.0, estimate.high or 0.0


def plainly(made: Sequence[Row]) -> dict[str, float]:
    """The measures, computed from the rows as their definitions say."""
    groups = [[row for row in made if row.group == name] for name in sorted({row.group for row in made})]
    positive = [share([r.predicted for r in g]) for g in groups]
    hits = [share([r.predicted for r in g if r.label]) for g in groups]
    alarms = [share([r.predicted for r in g if not r.label]) for g in groups]
    gaps = [sum(r.probability - r.label for r in g) / len(g) for g in groups]
    spread = {name: max(of) - min(of) for name, of in (("dp", positive), ("eo", hits), ("fp", alarms), ("cal", gaps))}
    return {
        "demographic_parity": spread["dp"],
        "equal_opportunity": spread["eo"],
        "equalised_odds": max(spread["eo"], spread["fp"]),
        "calibration": spread["cal"],
    }


@pytest.mark.parametrize("rates", [FAIR, UNFAIR])
def test_each_measure_is_what_its_definition_gives(rates: Rates) -> None:
    made = rows(rates, 900)

    found = {name: measure(name, sums_of(made)) for name in COMPARED}

    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(plainly(made), abs=1e-8)
    assert all(sorted(known(estimate)) == list(known(estimate)) for estimate in found.values())


def test_an_outcome_is_subtracted_exactly() -> None:
    made = rows(UNFAIR, 300)
    sums = sums_of(made)

    for row in made[100:]:
        sums[row.group].add(row.label, row.predicted, row.probability, sign=-1)

    assert sums == sums_of(made[:100])


def test_the_interval_of_a_share_is_wilsons() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I
    found = rate(81, 263)

    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_the_interval_of_a_difference_is_newcombes() -> None:
    # Newcombe, "Interval estimation for the difference between independent proportions" (1998), table II, 56/70 - 48/80
    groups = {"one": GroupSums(70, 0, 56), "other": GroupSums(80, 0, 48)}

    found = measure("demographic_parity", groups)

    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize("name", COMPARED)
def test_the_interval_of_the_largest_difference_of_many_groups_is_right(name: str) -> None:
    alike: Rates = {group: (0.5, 0.6, 0.4) for group in "abcdef"}
    truth = 0.0

    wrong = sum((measure(name, sums_of(rows(alike, 900, seed))).low or 0.0) > truth for seed in range(100))

    assert wrong <= 5


def test_a_difference_that_is_there_is_in_the_interval() -> None:
    wrong = 0
    for seed in range(100):
        low, _, high = known(measure("equal_opportunity", sums_of(rows(UNFAIR, 900, seed))))
        wrong += not low <= 0.4 <= high

    assert wrong <= 8


def test_a_group_with_few_outcomes_is_not_compared_and_with_one_left_nothing_is_known() -> None:
    few, enough = GroupSums(29, 29, 0, 0), GroupSums(MIN_OUTCOMES, MIN_OUTCOMES, MIN_OUTCOMES, MIN_OUTCOMES)

    two = measure("equal_opportunity", {"few": few, "one": enough, "other": enough})
    one = measure("equal_opportunity", {"few": few, "one": enough})

    assert (two.value, two.outcomes) == (0.0, 60)
    assert one == (None, None, None, 30)


def test_equalised_odds_needs_both_labels_in_two_groups() -> None:
    positives_only = {name: GroupSums(50, 50, 25, 25) for name in "ab"}

    assert measure("equal_opportunity", positives_only).value == 0.0
    assert measure("equalised_odds", positives_only).value is None


def test_calibration_is_undefined_without_probabilities_and_0_where_they_are_right() -> None:
    unscored, scored, random = GroupSums(), GroupSums(), Random(3)
    for _ in range(2000):
        chance = random.random()
        label = random.random() < chance
        unscored.add(label, chance > 0.5, None)
        scored.add(label, chance > 0.5, chance)

    low, _, high = known(calibration_error(scored))

    assert calibration_error(unscored).value is None
    assert low <= 0 <= high
