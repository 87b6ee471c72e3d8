"""Scores of anomalies: unusual observations score higher, memory is fixed, and no value ruins them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from everloop_models.formats.river.anomalies import WINDOW, AnomalyScores
from everloop_models.formats.river.rarity import MAX_CATEGORIES
from everloop_schemas.envelope import Fields

NAMES = ("a", "b", "plan", "member")


def usual(rng: random.Random) -> Fields:
    return {"a": rng.gauss(10, 2), "b": rng.gauss(-500, 90), "plan": rng.choice("ggggs"), "member": rng.random() < 0.95}


def taught(rows: int = 4 * WINDOW, seed: int = 1) -> AnomalyScores:
    scores, rng = AnomalyScores(NAMES), random.Random(seed)
    for _ in range(rows):
        scores.score(usual(rng))
    return scores


def test_there_is_no_score_before_a_window_is_learned_and_then_one_from_0_to_1() -> None:
    scores, rng = AnomalyScores(NAMES), random.Random(1)

    found = [scores.score(usual(rng)) for _ in range(3 * WINDOW)]

    known = [score for score in found if score is not None]
    assert found[:WINDOW] == [None] * WINDOW
    assert len(known) >= 2 * WINDOW - 2
    assert all(0 <= score <= 1 for score in known)


@pytest.mark.parametrize(
    "change", [{"a": 40.0}, {"b": 400.0}, {"a": -30.0, "plan": "x", "member": False}, {"plan": "x", "member": False}]
)
def test_what_is_unusual_scores_higher_than_most_of_what_is_usual(change: dict[str, Any]) -> None:
    scores, rng = taught(), random.Random(2)
    ordinary = sorted(scores.score(usual(rng)) or 0.0 for _ in range(100))

    found = [scores.score({**usual(rng), **change}) or 0.0 for _ in range(10)]

    assert sorted(found)[5] > ordinary[70]


@pytest.mark.parametrize("features", [4, 30])
@pytest.mark.parametrize("odd", [lambda value: value * 10, lambda value: 0.0])
def test_one_odd_value_is_seen_however_many_features_there_are(features: int, odd: Callable[[float], float]) -> None:
    scores, rng = AnomalyScores([f"f{n}" for n in range(features)]), random.Random(5)
    centres = [rng.uniform(20, 200) for _ in range(features)]

    def wide() -> Fields:
        together = rng.gauss(0, 0.5)
        return {f"f{n}": c * (1 + 0.15 * (together + rng.gauss(0, 0.85))) for n, c in enumerate(centres)}

    for _ in range(3 * WINDOW):
        scores.score(wide())
    usual, unusual = list[float](), list[float]()
    for n in range(500):
        row, name = wide(), f"f{rng.randrange(features)}"
        if n % 25 == 0:
            row[name] = odd(float(row[name] or 0.0))
        (usual if n % 25 else unusual).append(scores.score(row) or 0.0)

    assert area_under_curve(usual, unusual) > 0.95
    assert sum(score > 0.99 for score in usual) / len(usual) < 0.05


def area_under_curve(usual: list[float], unusual: list[float]) -> float:
    """How often an unusual one has a higher score than a usual one; equal ones count half."""
    pairs = [(a > b) + (a == b) / 2 for a in unusual for b in usual]
    return sum(pairs) / len(pairs)


def test_a_text_that_is_new_each_time_is_no_evidence() -> None:
    scores, rng = AnomalyScores(("a", "name")), random.Random(6)
    found = [scores.score({"a": rng.gauss(0, 1), "name": f"id-{n}"}) or 0.0 for n in range(6 * WINDOW)][2 * WINDOW :]

    assert sum(score > 0.9 for score in found) / len(found) < 0.2


def test_what_has_stayed_unusual_for_long_is_usual() -> None:
    scores, rng = taught(), random.Random(7)
    first = scores.score({**usual(rng), "a": 60.0}) or 0.0

    for _ in range(12 * WINDOW):
        scores.score({**usual(rng), "a": rng.gauss(60, 2)})
    later = [scores.score({**usual(rng), "a": rng.gauss(60, 2)}) or 0.0 for _ in range(100)]

    assert first > 0.95 > sorted(later)[70]


def test_equal_streams_have_equal_scores() -> None:
    rng = random.Random(3)
    row = usual(rng)

    assert taught().score(row) == taught().score(row)


def test_hostile_values_are_scored_and_ruin_nothing() -> None:
    scores, rng = taught(), random.Random(4)
    ordinary = sorted(scores.score(usual(rng)) or 0.0 for _ in range(100))
    hostile: list[Fields] = [
        {"a": 1e308, "b": -1e308, "plan": "\0" * 1_000, "member": True},
        {"a": None, "b": None, "plan": None, "member": None},
        {"a": math.inf, "b": 10**18, "plan": "", "member": False},
        {"other": 1.0},
        {},
    ]

    found = [scores.score(row) for row in hostile for _ in range(5)]
    for n in range(1_000):
        scores.score({**usual(rng), "plan": f"text-{n}"})
    for _ in range(2 * WINDOW):
        scores.score(usual(rng))
    later = sorted(scores.score(usual(rng)) or 0.0 for _ in range(100))

    assert all(score is not None and 0 <= score <= 1 for score in found)
    assert abs(later[50] - ordinary[50]) < 0.15
    assert len(scores.categories["plan"]) <= MAX_CATEGORIES
