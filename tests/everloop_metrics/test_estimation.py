"""The estimate before labels come is near what the labels show, also where probabilities are dishonest."""

from __future__ import annotations

from random import Random

import pytest

from everloop_metrics import metric_input, score_of
from everloop_metrics.estimation import ESTIMATED, BinaryPrediction, Calibration, calibrated, expected_score


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

        estimate = expected_score(metric, curve, [said for said, _ in later])

        assert estimate == pytest.approx(shown, abs=0.035)


def test_the_estimate_falls_with_harder_inputs_and_would_be_too_high_without_calibration() -> None:
    rows, hard = stream(1, 4_000, 0.9), [said for said, _ in stream(3, 2_000, 0.4)]
    honest = [(0.0, 0.0), (1.0, 1.0)]

    easy = expected_score("accuracy", learned(rows), [said for said, _ in rows])
    harder = expected_score("accuracy", learned(rows), hard)
    believed = expected_score("accuracy", honest, hard)

    assert easy is not None
    assert harder is not None
    assert believed is not None
    assert harder < easy - 0.05
    assert believed > harder + 0.03


def test_the_calibration_rises_with_the_probability_and_stays_between_zero_and_one() -> None:
    rng, calibration = Random(2), Calibration()
    for _ in range(20_000):
        calibration.learn(rng.random(), rng.random() < 0.5)

    curve = calibration.curve()

    assert sum(calibration.counts) <= 5_000
    assert curve == sorted(curve)
    assert [y for _, y in curve] == sorted(y for _, y in curve)
    assert all(0.0 <= calibrated(curve, chance) <= 1.0 for chance in (0.0, 1e-9, 0.5, 1.0))
