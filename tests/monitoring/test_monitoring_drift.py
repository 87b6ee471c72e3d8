"""The detectors, the alarm and the change point, on seeded streams."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from pydantic import TypeAdapter
from river.drift import ADWIN as RiverAdwin
from river.drift.binary import HDDMW

from everloop_monitoring.domain.change_point import find_change_point
from everloop_monitoring.domain.detectors import ADWIN, HDDM_W, Adwin, HddmW
from everloop_monitoring.domain.drift import DRIFT_DETECTOR, ERROR_THRESHOLD, Alarm, DriftDetector, ErrorThreshold


def errors(seed: int, *parts: tuple[int, float]) -> list[int]:
    rng = Random(seed)
    return [int(rng.random() < rate) for n, rate in parts for _ in range(n)]


def alarms(detector: DriftDetector, stream: list[int], start: int = 0) -> list[Alarm]:
    return [alarm for i, e in enumerate(stream, start) if (alarm := detector.add(i, e))]


@pytest.mark.parametrize("seed", range(6))
def test_both_detectors_detect_where_rivers_do(seed: int) -> None:
    stream = errors(seed, (1500, 0.2), (1500, 0.4))
    hddm, adwin = HddmW(), Adwin()
    theirs: list[Any] = [HDDMW(HDDM_W.drift_confidence, lambda_val=HDDM_W.newest_weight), RiverAdwin(ADWIN.delta)]  # type: ignore[no-untyped-call]  # river has no types

    ours = [[hddm.add(e) for e in stream].index(True), [adwin.add(e) for e in stream].index(True)]

    assert ours == [[d.update(e) or d.drift_detected for e in stream].index(True) for d in theirs]


def test_a_fall_of_the_error_is_no_drift() -> None:
    stream = errors(3, (1500, 0.45), (1500, 0.05))

    assert alarms(DriftDetector(), stream) == []


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.35])
def test_a_steady_error_hardly_ever_raises_an_alarm(rate: float) -> None:
    found = [alarms(DriftDetector(), errors(seed, (10_000, rate))) for seed in range(3)]

    assert sum(map(len, found)) <= 3


@pytest.mark.parametrize("seed", range(8))
def test_a_rise_by_35_points_raises_an_alarm_soon_with_a_change_point_near_the_change(seed: int) -> None:
    stream = errors(seed, (2000, 0.15), (1000, 0.5))

    alarm = next(a for a in alarms(DriftDetector(), stream) if a.offset >= 2000)

    assert alarm.offset - 2000 < 250
    assert abs(alarm.change_point - 2000) <= 30
    assert alarm.error_after > alarm.error_before + 0.2
    assert alarm.since == alarm.offset - alarm.change_point + 1


def test_the_change_point_is_exact_where_the_change_is_complete() -> None:
    assert find_change_point([0] * 300 + [1] * 40) == 300
    assert find_change_point([1] * 40 + [0] * 300) == 0
    assert find_change_point([]) == 0


def test_one_drift_is_one_alarm() -> None:
    stream = errors(1, (2000, 0.1), (DRIFT_DETECTOR.cooldown_outcomes + 500, 0.6))

    assert len(alarms(DriftDetector(), stream)) == 1


def test_a_second_drift_after_the_cooldown_is_a_second_alarm() -> None:
    stream = errors(1, (2000, 0.05), (1000, 0.3), (1000, 0.8))

    found = alarms(DriftDetector(), stream)

    assert len(found) == 2
    assert abs(found[1].change_point - 3000) <= 10


def test_a_second_drift_within_the_cooldown_raises_an_alarm_at_its_end() -> None:
    stream = errors(1, (2000, 0.05), (200, 0.4), (1000, 0.9))

    found = alarms(DriftDetector(), stream)

    assert len(found) == 2
    assert found[1].offset == found[0].offset + DRIFT_DETECTOR.cooldown_outcomes + 1
    assert abs(found[1].change_point - 2200) <= 10


def test_a_rise_within_the_cooldown_that_is_over_at_its_end_raises_no_alarm() -> None:
    stream = errors(1, (2000, 0.05), (150, 0.4), (60, 0.95), (1000, 0.05))

    assert len(alarms(DriftDetector(), stream)) == 1


@pytest.mark.parametrize("cut", [1, 777, 2030, 2100])
def test_a_detector_restored_from_json_continues_bit_for_bit(cut: int) -> None:
    stream, adapter = errors(5, (2000, 0.2), (2000, 0.45)), TypeAdapter(DriftDetector)
    whole, first = DriftDetector(), DriftDetector()
    before = alarms(first, stream[:cut])

    second = adapter.validate_json(adapter.dump_json(first))
    after = alarms(second, stream[cut:], start=cut)

    assert before + after == alarms(whole, stream)
    assert adapter.dump_json(second) == adapter.dump_json(whole)


def test_a_regressions_error_is_compared_with_the_median_of_its_first_errors() -> None:
    rng, threshold = Random(2), ErrorThreshold()

    learning = [threshold.classify(rng.expovariate(1)) for _ in range(ERROR_THRESHOLD.reference_outcomes)]
    same = [threshold.classify(rng.expovariate(1)) for _ in range(1000)]
    worse = [threshold.classify(rng.expovariate(0.25)) for _ in range(1000)]

    assert set(learning) == {None}
    assert sum(filter(None, same)) / 1000 == pytest.approx(0.5, abs=0.1)
    assert sum(filter(None, worse)) / 1000 > 0.75


def test_a_threshold_that_errors_hardly_ever_exceed_is_obsolete() -> None:
    threshold = ErrorThreshold()
    for _ in range(ERROR_THRESHOLD.reference_outcomes):
        threshold.classify(10.0)

    classified = [threshold.classify(1.0) for _ in range(ERROR_THRESHOLD.recent_outcomes)]

    assert set(classified) == {0}
    assert threshold.is_obsolete


def runs(seed: int, n: int, flip: int) -> list[int]:
    """Errors in runs of five, a quarter of them wrong, inverted from `flip` on."""
    rng, stream, state = Random(seed), list[int](), 0
    for i in range(n):
        state = int(rng.random() < (0.8 if state else 0.06))
        stream.append(state if i < flip else 1 - state)
    return stream


def test_errors_that_come_in_runs_raise_few_alarms() -> None:
    found = [len(alarms(DriftDetector(), runs(seed, 10_000, 10_000))) for seed in range(3)]

    assert sum(found) <= 9  # the detectors alone: 48


@pytest.mark.parametrize("seed", range(4))
def test_an_inverted_concept_raises_an_alarm_soon_though_errors_come_in_runs(seed: int) -> None:
    stream = runs(seed, 3000, 2000)

    alarm = next(a for a in alarms(DriftDetector(), stream) if a.offset >= 2000)

    assert alarm.offset < 2120
    assert abs(alarm.change_point - 2000) < 80
