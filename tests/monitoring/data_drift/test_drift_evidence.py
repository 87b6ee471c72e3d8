"""The distances and probabilities are those of the literature, and the variance of a stream is not underestimated."""

from __future__ import annotations

from math import log
from random import Random

import pytest
from scipy.spatial.distance import jensenshannon  # type: ignore[import-untyped]
from scipy.stats import chi2_contingency, f, false_discovery_control  # type: ignore[import-untyped]

from everloop_monitoring.domain.data_drift.evidence import (
    Design,
    adjust,
    f_tail,
    jensen_shannon,
    likeliest_start,
    measure_design,
    population_stability,
    probability_beyond,
    probability_of,
    shares,
)

BEFORE, AFTER = [400, 300, 200, 100], [100, 90, 150, 160]


def test_distances_are_those_of_the_shares() -> None:
    p, q = shares(BEFORE), shares(AFTER)

    assert jensen_shannon(BEFORE, AFTER) == pytest.approx(jensenshannon(p, q, base=2))
    assert population_stability(BEFORE, AFTER) == pytest.approx(
        sum((b - a) * log(b / a) for a, b in zip(p, q, strict=True))
    )


def test_the_probability_of_extreme_blocks_is_that_of_their_ranks_or_above() -> None:
    rng, runs, found = Random(3), 20_000, [0] * 5
    for _ in range(runs):
        *window, best = [rng.random() for _ in range(4)] + [max(rng.random() for _ in range(8))]
        beyond = sum(value > best for value in window)
        for least in range(beyond + 1):
            found[least] += 1

    assert [probability_beyond(k, 4, 8) for k in (0, 1)] == [1.0, pytest.approx(4 / 9)]
    assert probability_beyond(10, 10, 20) == pytest.approx(1 / 30_045_015)
    for least in (1, 2, 3, 4):
        assert found[least] / runs <= probability_beyond(least, 4, 8) + 0.005
    assert found[4] / runs == pytest.approx(probability_beyond(4, 4, 8), rel=0.5)


@pytest.mark.parametrize(("dimensions", "degrees"), [(2, 7.5), (4, 19.0), (10, 160.0)])
def test_the_tail_of_f_is_scipys_for_an_even_number_of_dimensions(dimensions: int, degrees: float) -> None:
    for total in (0.5, 10.0, 60.0, 1e6):
        assert f_tail(total, dimensions, degrees) == pytest.approx(f.sf(total / dimensions, dimensions, degrees))


def test_between_even_numbers_of_dimensions_the_tail_is_never_too_small() -> None:
    for dimensions in (1, 3, 5.5):
        for total in (1.0, 10.0, 60.0):
            assert f_tail(total, dimensions, 30.0) >= f.sf(total / dimensions, dimensions, 30.0)


def test_independent_values_are_tested_as_by_pearson() -> None:
    known = Design(scale=1.0, dimensions=3.0, degrees=1e9)
    pearson = chi2_contingency([BEFORE, [405, 290, 205, 100]], correction=False).pvalue

    assert pearson <= probability_of(BEFORE, [405, 290, 205, 100], known) <= 2 * pearson
    assert probability_of(BEFORE, AFTER, known) < 1e-30


def test_false_discoveries_are_controlled_as_by_benjamini_and_hochberg() -> None:
    rng = Random(1)
    probabilities = [rng.random() ** 3 for _ in range(40)]

    assert adjust(probabilities) == pytest.approx(false_discovery_control(probabilities))


def test_blocks_of_a_slow_stream_vary_more_than_those_of_independent_values() -> None:
    rng = Random(2)
    independent = [[sum(rng.random() < 0.5 for _ in range(50))] for _ in range(20)]
    slow = [[50 if i % 6 < 3 else 2] for i in range(20)]

    found = [measure_design([[n, 50 - n] for [n] in blocks]) for blocks in (independent, slow)]

    assert found[0].scale < 2
    assert found[1].scale > 30
    assert found[1].degrees < found[0].degrees


def test_a_change_starts_where_the_blocks_begin_to_differ() -> None:
    blocks = [[20, 15, 10, 5]] * 6 + [[5, 5, 15, 25]] * 4

    assert likeliest_start(BEFORE, blocks) == 6
