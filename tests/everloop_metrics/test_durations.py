"""Quantiles of durations are within 5 % of the true ones, in bounded memory."""

from __future__ import annotations

from random import Random

import pytest

from everloop_metrics.durations import Durations


def test_quantiles_are_near_the_true_ones_and_can_be_taken_back() -> None:
    rng, durations = Random(1), Durations()
    seconds = sorted(rng.lognormvariate(3, 2) for _ in range(2_000))
    for one in [*seconds, *[1e6] * 500]:
        durations.add(one)
    for _ in range(500):
        durations.add(1e6, -1)

    for share in (0.0, 0.5, 0.9, 0.99):
        assert durations.quantile(share) == pytest.approx(seconds[int(share * 1999)], rel=0.06)


def test_whatever_comes_the_sketch_is_small() -> None:
    durations = Durations()
    for i in range(5_000):
        durations.add(-1.0 if i % 2 else 10.0 ** (i % 30 - 10))

    assert len(durations.bins) <= 290
    assert durations.quantile(0.01) == pytest.approx(0.001, rel=0.06)
    assert Durations().quantile(0.5) is None
