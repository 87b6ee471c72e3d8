"""The gate: what counts as evidence, how much is needed, and when it starts anew."""

from __future__ import annotations

import time
from math import log, log1p
from random import Random
from statistics import median

import pytest
from tests.builders.events import challenge_updated

from everloop_registry.domain.betting import BettingTest
from everloop_registry.domain.gate import MAX_PENDING_OUTCOMES, Gate, GateWin
from everloop_schemas.loop_parts import GateSpec

SPEC = GateSpec(min_outcomes=200)
LN_20 = 2.9957


def needed(random: Random, gap: float, limit: int = 5000) -> int:
    """Outcomes until E >= 20 for a challenger that is right `gap` more often, where 15 % are only one's."""
    bet = BettingTest()
    while bet.log_e < LN_20 and bet.outcomes < limit:
        u = random.random()
        bet.add(1.0 if u < 0.15 / 2 + gap / 2 else -1.0 if u < 0.15 else 0.0)
    return bet.outcomes


def observe(gate: Gate, champion: float, challenger: float, start: int, n: int = 100) -> GateWin | None:
    """Constant losses of both on n outcomes."""
    return gate.observe("a-0", challenge_updated(start, {"a-0": [champion] * n, "b-0": [challenger] * n}).data, SPEC)


@pytest.mark.parametrize(("gap", "fewest", "most"), [(0.05, 200, 600), (0.10, 70, 180)])
def test_a_known_gap_is_found_in_the_measured_number_of_outcomes(gap: float, fewest: int, most: int) -> None:
    random = Random(7)

    counts = [needed(random, gap) for _ in range(101)]

    assert fewest <= median(counts) <= most


def test_equal_lines_are_told_apart_in_few_runs_though_the_test_is_read_after_every_outcome() -> None:
    random = Random(11)

    wrong = sum(needed(random, 0.0, limit=1000) < 1000 for _ in range(200))

    assert wrong <= 200 * 0.05


def test_the_evidence_is_the_mixture_of_seven_bets() -> None:
    bet = BettingTest()

    for _ in range(3):
        bet.add(1.0)

    lambdas = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
    assert bet.log_e == pytest.approx(log(sum((1 + x) ** 3 for x in lambdas) / 7))


def test_a_better_line_passes_once_min_outcomes_are_there() -> None:
    gate = Gate()

    first, second = observe(gate, 1.0, 0.0, start=0), observe(gate, 1.0, 0.0, start=100)

    assert first is None
    assert second is not None
    assert (second.line, second.outcomes, second.offset, second.urgent) == ("b-0", 200, 199, False)


def test_offsets_seen_before_change_nothing_however_they_are_cut() -> None:
    once, twice = Gate(), Gate()
    observe(once, 1.0, 0.0, start=0, n=150)
    observe(twice, 1.0, 0.0, start=0, n=100)

    observe(twice, 1.0, 0.0, start=0, n=100)
    observe(twice, 1.0, 0.0, start=50, n=100)

    assert once == twice


def test_a_repeated_range_with_fewer_lines_keeps_the_evidence() -> None:
    gate = Gate()
    observe(gate, 1.0, 0.0, start=0)

    gate.observe("a-0", challenge_updated(0, {"a-0": [1.0] * 100}).data, SPEC)

    assert gate.challengers["b-0"].bet.outcomes == 100


def test_an_alarm_restarts_the_test_on_unseen_outcomes() -> None:
    gate = Gate()
    observe(gate, 0.0, 1.0, start=0, n=150)

    gate.restart_for_alarm(120)
    observe(gate, 1.0, 0.0, start=0, n=150)
    win = observe(gate, 1.0, 0.0, start=150)

    assert win is not None
    assert (win.outcomes, win.offset, win.epoch, win.urgent) == (100, 249, 2, True)


def test_an_alarm_ahead_of_the_losses_counts_only_what_comes_after_it() -> None:
    gate = Gate()
    observe(gate, 1.0, 0.0, start=0, n=50)

    gate.restart_for_alarm(99)
    observe(gate, 1.0, 0.0, start=50, n=100)

    assert gate.challengers["b-0"].bet.outcomes == 50


def test_the_same_alarm_twice_is_one_epoch() -> None:
    gate = Gate()

    restarted = [gate.restart_for_alarm(100), gate.restart_for_alarm(100), gate.restart_for_alarm(90)]

    assert (restarted, gate.epoch) == ([True, False, False], 2)


def test_more_challengers_and_later_epochs_need_more_evidence() -> None:
    gate = Gate()
    lines = {"a-0": [0.5], "b-0": [0.5], "c-0": [0.5], "0": [0.5]}
    gate.observe("a-0", challenge_updated(0, lines).data, SPEC)

    two = gate.log_threshold(gate.challengers["b-0"], 0.05)
    gate.restart_line("b-0")
    second_try = gate.log_threshold(gate.challengers["b-0"], 0.05)

    assert two == pytest.approx(log(2 * 1 * 2 / 0.05))
    assert second_try == pytest.approx(log(2 * 2 * 3 / 0.05))


def test_outcomes_that_one_of_the_pair_did_not_predict_are_left_out() -> None:
    gate = Gate()

    gate.observe("a-0", challenge_updated(0, {"a-0": [1.0, None, 1.0], "b-0": [None, 0.0, 0.0]}).data, SPEC)

    assert gate.challengers["b-0"].bet.outcomes == 1


def test_a_batch_of_a_hundred_outcomes_and_four_lines_takes_milliseconds() -> None:
    gate, lines = Gate(), {name: [0.5] * 100 for name in ("a-0", "b-0", "c-0", "d-0")}

    start = time.perf_counter()
    gate.observe("a-0", challenge_updated(0, lines).data, SPEC)

    assert time.perf_counter() - start < 1  # milliseconds, unless the machine is busy


@pytest.mark.parametrize("x", [5.0, -5.0, 1.7976931348623157e308, -1.7976931348623157e308])
def test_a_value_outside_the_bounds_counts_as_the_nearest_inside(x: float) -> None:
    outside, inside = BettingTest(), BettingTest()

    outside.add(x)
    inside.add(1.0 if x > 0 else -1.0)

    assert outside.log_e == inside.log_e


def test_while_the_champions_line_has_no_losses_what_was_served_takes_its_place() -> None:
    gate = Gate()

    early = gate.observe("a-0", challenge_updated(0, {"b-0": [0.0] * 300}).data, SPEC)
    win = gate.compare_pending(SPEC, dict.fromkeys(range(300), 1.0))

    assert early is None
    assert win is not None
    assert (win.line, win.outcomes) == ("b-0", 200)


def test_what_was_served_may_be_known_first() -> None:
    win = Gate().observe("a-0", challenge_updated(0, {"b-0": [0.0] * 300}).data, SPEC, dict.fromkeys(range(300), 1.0))

    assert win is not None
    assert win.line == "b-0"


def test_the_champions_own_line_is_the_comparison_where_it_has_a_loss() -> None:
    gate = Gate()
    losses: dict[str, list[float | None]] = {"a-0": [0.0] * 100 + [None] * 100, "b-0": [0.0] * 200}
    gate.observe("a-0", challenge_updated(0, losses).data, SPEC, dict.fromkeys(range(200), 1.0))

    assert sorted(gate.pending) == []
    assert gate.challengers["b-0"].bet.outcomes == 200
    assert gate.challengers["b-0"].bet.sums[0] == pytest.approx(100 * log1p(0.05))


def test_the_oldest_outcomes_whose_served_loss_never_comes_are_dropped() -> None:
    gate = Gate()
    for start in range(0, 3000, 100):
        gate.observe("a-0", challenge_updated(start, {"b-0": [0.0] * 100}).data, SPEC)

    assert len(gate.pending) == MAX_PENDING_OUTCOMES


@pytest.mark.parametrize("change", ["champion", "alarm"])
def test_pending_outcomes_belong_to_one_test_epoch(change: str) -> None:
    gate = Gate()
    gate.observe("a-0", challenge_updated(0, {"b-0": [0.0] * 300}).data, SPEC)

    gate.restart_for_champion() if change == "champion" else gate.restart_for_alarm(299)

    assert gate.compare_pending(SPEC, dict.fromkeys(range(300), 1.0)) is None
    assert gate.pending == {}
