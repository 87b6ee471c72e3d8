"""Arithmetic stays finite, sums can be taken back, and one number among many does not move a scale."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop_shared.arithmetic import FIRST, LARGEST, Spread, bounded, distance, exact, mean

HUGE = 1.7976931348623157e308
finite = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**400), 10**400)


@given(finite, finite)
def test_distances_of_finite_numbers_are_finite(a: float, b: float) -> None:
    assert 0 <= distance(a, b) <= LARGEST
    assert math.isfinite(distance(a, b) ** 2)


def test_a_number_beyond_the_largest_counts_as_the_largest_and_text_is_no_number() -> None:
    assert (bounded(HUGE), bounded(-(10**400)), bounded(math.nan), bounded(True)) == (LARGEST, -LARGEST, LARGEST, 1.0)
    with pytest.raises(TypeError, match="'banana' is not a number"):
        bounded("banana")


@given(st.lists(finite, max_size=20), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_terms_of_an_exact_sum_can_be_subtracted_exactly(huge: list[float], usual: list[float]) -> None:
    total = sum(map(exact, usual))

    with_huge = sum(map(exact, huge)) + total
    without = with_huge - sum(map(exact, reversed(huge)))

    assert without == total
    assert mean(total, len(usual)) == pytest.approx(fmean(usual), abs=1e-9)
    assert math.isfinite(mean(with_huge, len(usual)))


@pytest.mark.parametrize("when", [0, 1, 15, FIRST, FIRST + 1, 500])
@pytest.mark.parametrize("huge", [HUGE, -HUGE, 1e19])
def test_one_huge_number_among_hundreds_does_not_move_the_scale(when: int, huge: float) -> None:
    plain, struck = Spread(), Spread()

    for i in range(1000):
        plain.add(i % 10)
        if i == when:
            struck.add(huge)
        struck.add(i % 10)

    assert struck.width == pytest.approx(plain.width, rel=0.2)
    assert struck.loss(2.5) == pytest.approx(plain.loss(2.5), rel=0.1)


def test_a_scale_follows_numbers_that_became_larger_for_good() -> None:
    spread = Spread()
    for i in range(500):
        spread.add(i % 10)

    for i in range(1000):
        spread.add(1e6 * (i % 10))

    assert spread.width > 1e5


@given(st.lists(finite, min_size=1, max_size=80))
def test_losses_lie_between_zero_and_one_whatever_the_numbers(values: list[float]) -> None:
    spread = Spread()
    for value in values:
        assert 0.0 <= spread.loss(distance(value, 0.0)) <= 1.0
        spread.add(value)

    assert math.isfinite(spread.centre)
    assert math.isfinite(spread.width)
