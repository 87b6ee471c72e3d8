"""The estimate before labels come is near what the labels show, also where probabilities are dishonest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

import pytest

from everloop_metrics import metric_input, score_of
from everloop_metrics.estimation import (
    ESTIMATED,
    Calibration,
    ClassCurves,
    Curve,
    Expected,
    calibrated,
    expect_binary,
    expect_class,
    expected_score,
)


class BinaryPrediction(NamedTuple):
    """A probability of `true`, and what was predicted."""

    chance: float
    value: bool


def expected(curve: Curve, predictions: Iterable[BinaryPrediction]) -> Iterator[Expected]:
    return (expect_binary(curve, one.chance, one.value) for one in predictions)


def stream(seed: int, n: int, easy: float) -> list[tuple[BinaryPrediction, bool]]:
    """Predictions of a model that is too sure of itself; `easy` is how far its inputs are from the boundary."""
    rng, rows = Random(seed), []
    for _ in range(n):
        true = min(0.98, max(0.02, 0.5 + easy * rng.uniform(-0.5, 0.5)))
        odds = (true / (1 - true)) ** 2
        rows.append((BinaryPrediction(odds / (1 + odds), true > 0.5), rng.random() < true))
    return rows


def learned(rows: list[tuple[BinaryPrediction, bool]]) -> list[tuple[float, float]]:
    calibration = Calibration()
    for said, label in rows:
        calibration.learn(said.chance, label)
    return calibration.curve()


@pytest.mark.parametrize("metric", sorted(ESTIMATED))
def test_the_estimate_is_near_the_metric_that_labels_show_later(metric: str) -> None:
    curve = learned(stream(1, 4_000, 0.9))
    for easy in (0.9, 0.3):
        later = stream(2, 3_000, easy)
        shown = score_of(
            metric,
            [metric_input(metric, y, s.value, {"true": s.chance, "false": 1 - s.chance}) for s, y in later],
        )

        estimate = expected_score(metric, expected(curve, [said for said, _ in later]))

        assert estimate == pytest.approx(shown, abs=0.035)


def test_the_estimate_falls_with_harder_inputs_and_would_be_too_high_without_calibration() -> None:
    rows, hard = stream(1, 4_000, 0.9), [said for said, _ in stream(3, 2_000, 0.4)]
    honest = [(0.0, 0.0), (1.0, 1.0)]

    easy = expected_score("accuracy", expected(learned(rows), [said for said, _ in rows]))
    harder = expected_score("accuracy", expected(learned(rows), hard))
    believed = expected_score("accuracy", expected(honest, hard))

    assert easy is not None
    assert harder is not None
    assert believed is not None
    assert harder < easy - 0.05
    assert believed > harder + 0.03


NAMES = ["a", "b", "c", "d"]
OF_CLASSES = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "log_loss", "brier")


def of_classes(seed: int, n: int, spread: float) -> list[tuple[list[float], str, str]]:
    """Probabilities of a model that is too sure, mistakes most of class d for c, what it says, and labels."""
    rng, rows = Random(seed), []
    for _ in range(n):
        odds = [math.exp(rng.gauss(0, spread) - (i > 1)) for i in range(4)]
        true = [one / sum(odds) for one in odds]
        shown = [true[0], true[1], true[2] + 0.6 * true[3], 0.4 * true[3]]
        sharp = [one**1.5 for one in shown]
        said = [one / sum(sharp) for one in sharp]
        rows.append((said, NAMES[said.index(max(said))], rng.choices(NAMES, true)[0]))
    return rows


def class_curves(names: list[str], rows: Iterable[tuple[list[float], str, str]]) -> list[ClassCurves]:
    pairs = [(Calibration(of_many=True), Calibration(of_many=True)) for _ in names]
    for said, value, label in rows:
        for name, pair, chance in zip(names, pairs, said, strict=True):
            pair[name != value].learn(chance, label == name)
    return [ClassCurves(*(each.curve() for each in pair)) for pair in pairs]


@pytest.mark.parametrize("metric", OF_CLASSES)
def test_of_many_classes_every_metric_is_estimated_from_the_expected_confusion(metric: str) -> None:
    curves = class_curves(NAMES, of_classes(1, 4_000, 1.5))
    for spread in (1.5, 0.8):
        later = of_classes(2, 3_000, spread)
        inputs = [metric_input(metric, y, v, dict(zip(NAMES, said, strict=True))) for said, v, y in later]

        estimate = expected_score(metric, (expect_class(curves, NAMES, said, value) for said, value, _ in later))

        assert estimate == pytest.approx(score_of(metric, inputs), abs=0.04)


def test_small_probabilities_of_many_classes_do_not_add_up_to_a_mistake() -> None:
    names = [f"c{i}" for i in range(20)]
    chances = [0.98, *([0.02 / 19] * 19)]
    rng = Random(4)
    rows = [(chances, "c0", rng.choices(names, chances)[0]) for _ in range(3_000)]

    one = expect_class(class_curves(names, rows), names, chances, "c0")

    assert sum(one.shares.values()) == pytest.approx(1)
    assert one.shares["c0"] == pytest.approx(0.98, abs=0.01)


def test_the_calibration_rises_with_the_probability_and_stays_between_zero_and_one() -> None:
    rng, calibration = Random(2), Calibration()
    for _ in range(20_000):
        calibration.learn(rng.random(), rng.random() < 0.5)

    curve = calibration.curve()

    assert sum(calibration.counts) <= 5_000
    assert curve == sorted(curve)
    assert [y for _, y in curve] == sorted(y for _, y in curve)
    assert all(0.0 <= calibrated(curve, chance) <= 1.0 for chance in (0.0, 1e-9, 0.5, 1.0))
