"""Gate and guardrail decide by the metric that the spec names, not by accuracy."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import pytest
from tests.builders.events import challenge_updated
from tests.builders.loops import loop_spec

from everloop_learning.losses import Losses
from everloop_registry.domain.betting import BettingTest
from everloop_registry.domain.gate import Gate
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop_parts import GateSpec

OUTCOMES = 3_000
LN_20 = 2.9957


class Answer(NamedTuple):
    """What a model says: its value, and its probability of `true`."""

    value: Scalar
    chance: float | None = None


def losses_of(metric: str, answers: list[tuple[Scalar, Answer, Answer]], task: str) -> list[tuple[float, float]]:
    """The losses of champion and challenger, as training and monitoring compute them."""
    losses, found = Losses(loop_spec(task=task, metric=metric)), []
    for label, *both in answers:
        probabilities = [None if a.chance is None else {"true": a.chance, "false": 1 - a.chance} for a in both]
        champion, challenger = (losses.loss(label, a.value, p) for a, p in zip(both, probabilities, strict=True))
        found.append((champion, challenger))
        losses.learn(label, both[0].value)
    return found


def rare_positives() -> list[tuple[Scalar, Answer, Answer]]:
    """The champion never finds one; the challenger finds most of the 3 %, with as many false alarms as there are."""
    rng, rows = Random(4), list[tuple[Scalar, Answer, Answer]]()
    for _ in range(OUTCOMES):
        label = rng.random() < 0.03
        rows.append((label, Answer(False), Answer(rng.random() < (0.8 if label else 0.04))))
    return rows


def honest_probabilities() -> list[tuple[Scalar, Answer, Answer]]:
    """Both predict the same values; the champion is far too sure of them."""
    rng, rows = Random(5), list[tuple[Scalar, Answer, Answer]]()
    for _ in range(OUTCOMES):
        chance = rng.uniform(0.2, 0.8)
        value = chance > 0.5
        rows.append((rng.random() < chance, Answer(value, 0.99 if value else 0.01), Answer(value, chance)))
    return rows


def rare_large_errors() -> list[tuple[Scalar, Answer, Answer]]:
    """The champion is nearly always exact, and now and then far away; the challenger is always somewhat wrong."""
    rng, rows = Random(6), list[tuple[Scalar, Answer, Answer]]()
    for _ in range(OUTCOMES):
        label = rng.gauss(0, 10)
        champion = label + (rng.choice((-30, 30)) if rng.random() < 0.05 else 0.5)
        rows.append((label, Answer(champion), Answer(label + rng.choice((-3, 3)))))
    return rows


def sure_of_what_seldom_happens() -> list[tuple[Scalar, Answer, Answer]]:
    """The champion all but rules out what happens in 5 %, and else is a little nearer; the challenger is honest."""
    rng, rows = Random(7), list[tuple[Scalar, Answer, Answer]]()
    for _ in range(OUTCOMES):
        clear = rng.random() < 0.5
        label = rng.random() < (0.05 if clear else 0.5)
        seen = 0.49 + 0.02 * label
        rows.append((label, Answer(False, 0.0005 if clear else seen), Answer(False, 0.05 if clear else 0.5)))
    return rows


CASES = [
    ("binary", sure_of_what_seldom_happens, ["log_loss"], ["brier"]),
    ("binary", rare_positives, ["f1", "recall", "balanced_accuracy", "f1_macro"], ["accuracy"]),
    ("binary", honest_probabilities, ["brier", "log_loss", "ece"], ["accuracy", "f1"]),
    ("regression", rare_large_errors, ["rmse", "r2"], ["mae", "pinball"]),
]


@pytest.mark.parametrize(("task", "stream", "passes", "stays"), CASES)
def test_the_gate_promotes_the_model_that_is_better_by_the_metric(
    task: str, stream: type, passes: list[str], stays: list[str]
) -> None:
    answers = stream()
    won = {}
    for metric in [*passes, *stays]:
        gate, losses = Gate(), losses_of(metric, answers, task)
        wins = [
            gate.observe(
                "a-0",
                challenge_updated(
                    at, dict(zip(("a-0", "b-0"), zip(*losses[at : at + 100], strict=True), strict=True))
                ).data,
                GateSpec(min_outcomes=200),
            )
            for at in range(0, OUTCOMES, 100)
        ]
        won[metric] = any(win is not None for win in wins)

    assert won == {**dict.fromkeys(passes, True), **dict.fromkeys(stays, False)}


@pytest.mark.parametrize(("task", "stream", "worse", "fine"), CASES)
def test_the_guardrail_rolls_back_the_candidate_that_is_worse_by_the_metric(
    task: str, stream: type, worse: list[str], fine: list[str]
) -> None:
    swapped = [(label, candidate, champion) for label, champion, candidate in stream()]
    rolled_back = {}
    for metric in [*worse, *fine]:
        bet = BettingTest()
        for champion, candidate in losses_of(metric, swapped, task):
            bet.add(candidate - champion)
        rolled_back[metric] = bet.reaches(LN_20)

    assert rolled_back == {**dict.fromkeys(worse, True), **dict.fromkeys(fine, False)}
