"""Intervals contain the mean at all times at once, as often as they say, and become narrow."""

from __future__ import annotations

import math
from random import Random

import pytest

from everloop_metrics.confidence import asymptotic_interval, bounded_interval


def misses(rate: float, runs: int, drifts: bool = False) -> int:
    """How often an interval, looked at all the time, ever misses the mean of what was expected so far."""
    missed = 0
    for seed in range(runs):
        rng, total, expected = Random(seed), 0, 0.0
        for n in range(1, 601):
            mean = min(1.0, rate * (1.6 if drifts and n > 300 else 1.0))
            total, expected = total + (rng.random() < mean), expected + mean
            if n % 10 == 0 or n < 10:
                interval = bounded_interval(total, n)
                assert interval is not None
                if not interval[0] <= expected / n <= interval[1]:
                    missed += 1
                    break
    return missed


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.97])
def test_an_interval_that_is_looked_at_all_the_time_misses_seldom(rate: float) -> None:
    assert misses(rate, 60) <= 3


def test_the_interval_holds_where_the_mean_changes() -> None:
    assert misses(0.4, 40, drifts=True) <= 2


def test_the_interval_becomes_narrow() -> None:
    sizes = (100, 1_000, 100_000, 10**8)
    widths = [found[1] - found[0] for n in sizes if (found := bounded_interval(0.9 * n, n))]

    assert widths[0] < 0.35
    assert widths[1] < 0.12
    assert widths[2] < 0.02
    assert widths[3] < 0.005


def test_the_interval_lies_between_zero_and_one_and_contains_the_mean() -> None:
    for n in (1, 2, 7, 10**12):
        for total in (0, 0.3 * n, n, n + 1.0, -1.0):
            interval = bounded_interval(total, n)
            assert interval is not None
            assert 0.0 <= interval[0] <= min(1.0, max(0.0, total / n)) <= interval[1] <= 1.0
    assert bounded_interval(0, 0) is None


def test_the_asymptotic_interval_misses_seldom_and_needs_thirty_numbers() -> None:
    missed = 0
    for seed in range(60):
        rng, numbers = Random(seed), list[float]()
        for n in range(1, 501):
            numbers.append(rng.expovariate(1))
            if n % 25 == 0 and n >= 50:
                interval = asymptotic_interval(sum(numbers) / n, sum(x * x for x in numbers) / n, n)
                assert interval is not None
                if not interval[0] <= 1.0 <= interval[1]:
                    missed += 1
                    break

    assert missed <= 4
    assert asymptotic_interval(1.0, 1.0, 29) is None
    assert all(map(math.isfinite, asymptotic_interval(1e150, 1e300, 10**9) or [math.nan]))
