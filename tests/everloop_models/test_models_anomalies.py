"""Scores of anomalies: unusual observations score higher, memory is fixed, and no value ruins them."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from everloop_models.formats.river.anomalies import MAX_CATEGORIES, WINDOW, AnomalyScores
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
