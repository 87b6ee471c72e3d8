"""The detectors, the alarm and the change point, on seeded streams."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from pydantic import TypeAdapter
from river.drift import ADWIN
from river.drift.binary import HDDMW

from everloop_monitoring.domain.detectors import ADWIN_DELTA, HDDM_CONFIDENCE, HDDM_LAMBDA, Adwin, HddmW
from everloop_monitoring.domain.drift import COOLDOWN, RECENT, REFERENCE, Alarm, Reference, Watch, change_point


def errors(seed: int, *parts: tuple[int, float]) -> list[int]:
    rng = Random(seed)
    return [int(rng.random() < rate) for n, rate in parts for _ in range(n)]


def alarms(watch: Watch, stream: list[int], start: int = 0) -> list[Alarm]:
    return [alarm for i, e in enumerate(stream, start) if (alarm := watch.add(i, e))]


@pytest.mark.parametrize("seed", range(6))
def test_both_detectors_fire_where_rivers_do(seed: int) -> None:
    stream = errors(seed, (1500, 0.2), (1500, 0.4))
    hddm, adwin = HddmW(), Adwin()
    theirs: list[Any] = [HDDMW(HDDM_CONFIDENCE, lambda_val=HDDM_LAMBDA), ADWIN(ADWIN_DELTA)]  # type: ignore[no-untyped-call]  # river has no types

    ours = [[hddm.add(e) for e in stream].index(True), [adwin.add(e) for e in stream].index(True)]

    assert ours == [[d.update(e) or d.drift_detected for e in stream].index(True) for d in theirs]


def test_a_fall_of_the_error_is_no_drift() -> None:
    stream = errors(3, (1500, 0.45), (1500, 0.05))

    assert alarms(Watch(), stream) == []


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.35])
def test_a_steady_error_hardly_ever_raises_an_alarm(rate: float) -> None:
    found = [alarms(Watch(), errors(seed, (10_000, rate))) for seed in range(3)]

    assert sum(map(len, found)) <= 3


@pytest.mark.parametrize("seed", range(8))
def test_twenty_points_more_are_seen_soon_and_dated_well(seed: int) -> None:
    stream = errors(seed, (2000, 0.15), (1000, 0.5))

    alarm = next(a for a in alarms(Watch(), stream) if a.offset >= 2000)

    assert alarm.offset - 2000 < 250
    assert abs(alarm.change_point - 2000) <= 30
    assert alarm.error_after > alarm.error_before + 0.2
    assert alarm.since == alarm.offset - alarm.change_point + 1


def test_the_change_point_is_exact_where_the_change_is_complete() -> None:
    assert change_point([0] * 300 + [1] * 40) == 300
    assert change_point([1] * 40 + [0] * 300) == 0
    assert change_point([]) == 0


def test_one_drift_is_one_alarm() -> None:
    stream = errors(1, (2000, 0.1), (COOLDOWN + 500, 0.6))

    assert len(alarms(Watch(), stream)) == 1


def test_a_second_drift_after_the_cooldown_is_a_second_alarm() -> None:
    stream = errors(1, (2000, 0.05), (1000, 0.3), (1000, 0.8))

    found = alarms(Watch(), stream)

    assert len(found) == 2
    assert abs(found[1].change_point - 3000) <= 10


def test_a_second_drift_within_the_cooldown_is_told_at_its_end() -> None:
    stream = errors(1, (2000, 0.05), (200, 0.4), (1000, 0.9))

    found = alarms(Watch(), stream)

    assert len(found) == 2
    assert found[1].offset == found[0].offset + COOLDOWN + 1
    assert abs(found[1].change_point - 2200) <= 10


def test_a_rise_within_the_cooldown_that_is_over_at_its_end_is_not_told() -> None:
    stream = errors(1, (2000, 0.05), (150, 0.4), (60, 0.95), (1000, 0.05))

    assert len(alarms(Watch(), stream)) == 1


@pytest.mark.parametrize("cut", [1, 777, 2030, 2100])
def test_a_restart_from_json_goes_on_bit_for_bit(cut: int) -> None:
    stream, adapter = errors(5, (2000, 0.2), (2000, 0.45)), TypeAdapter(Watch)
    whole, first = Watch(), Watch()
    before = alarms(first, stream[:cut])

    second = adapter.validate_json(adapter.dump_json(first))
    after = alarms(second, stream[cut:], start=cut)

    assert before + after == alarms(whole, stream)
    assert adapter.dump_json(second) == adapter.dump_json(whole)


def test_a_regressions_error_is_judged_against_what_was_usual_at_first() -> None:
    rng, reference = Random(2), Reference()

    learning = [reference.judge(rng.expovariate(1)) for _ in range(REFERENCE)]
    same = [reference.judge(rng.expovariate(1)) for _ in range(1000)]
    worse = [reference.judge(rng.expovariate(0.25)) for _ in range(1000)]

    assert set(learning) == {None}
    assert sum(filter(None, same)) / 1000 == pytest.approx(0.5, abs=0.1)
    assert sum(filter(None, worse)) / 1000 > 0.75


def test_a_reference_that_says_nothing_any_more_is_outgrown() -> None:
    reference = Reference()
    for _ in range(REFERENCE):
        reference.judge(10.0)

    verdicts = [reference.judge(1.0) for _ in range(RECENT)]

    assert set(verdicts) == {0}
    assert reference.outgrown


def runs(seed: int, n: int, flip: int) -> list[int]:
    """Errors in runs of five, a quarter of them wrong, turned round from `flip` on."""
    rng, stream, state = Random(seed), list[int](), 0
    for i in range(n):
        state = int(rng.random() < (0.8 if state else 0.06))
        stream.append(state if i < flip else 1 - state)
    return stream


def test_errors_that_come_in_runs_raise_few_alarms() -> None:
    found = [len(alarms(Watch(), runs(seed, 10_000, 10_000))) for seed in range(3)]

    assert sum(found) <= 9  # the detectors alone: 48


@pytest.mark.parametrize("seed", range(4))
def test_a_flip_is_seen_soon_though_errors_come_in_runs(seed: int) -> None:
    stream = runs(seed, 3000, 2000)

    alarm = next(a for a in alarms(Watch(), stream) if a.offset >= 2000)

    assert alarm.offset < 2120
    assert abs(alarm.change_point - 2000) < 80
