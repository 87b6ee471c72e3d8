"""What the bench makes of its looks: the arithmetic that every figure goes through."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.bench.__main__ import arguments, settings_of
from tests.bench.figures import Sample, against, as_json, at_most, markdown
from tests.bench.pairs import ALL, Run
from tests.bench.pairs import table as table_of_pairs
from tests.bench.settings import QUICK
from tests.bench.subject import Look, stretches


def test_the_start_and_the_end_of_a_process_are_left_out() -> None:
    flowing: list[Look] = [(10 + i / 10, 100 * i, 0.01 * i) for i in range(100)]
    looks: list[Look] = [(0.0, 0, 0.0), *flowing, (30.0, 10_000, 5.0)]

    found = stretches(looks, parts=2)

    assert [round(s.rate) for s in found] == [1000, 1000]
    assert [round(s.cpu_us) for s in found] == [100, 100]


def test_what_was_over_too_soon_is_taken_as_a_whole() -> None:
    looks: list[Look] = [(0.0, 0, 1.0), (1.0, 0, 1.5), (2.0, 500, 2.0)]

    found = stretches(looks, parts=5)

    assert found == [Sample(rate=500.0, cpu_us=1000.0)]


def test_the_ratio_is_the_median_of_the_pairs_that_ran_in_turn() -> None:
    ours = [Sample(100, 10), Sample(10, 11), Sample(60, 12)]
    bare = [Sample(100, 5), Sample(20, 6), Sample(100, 7)]

    figure = against("engine", ours, bare, goal=0.6)

    assert (figure.ratio, figure.met) == (0.6, True)
    assert (figure.ours, figure.bare, figure.cpu_us, figure.bare_cpu_us) == (60, 100, 11, 6)


def test_a_figure_without_a_goal_is_neither_met_nor_missed() -> None:
    figure = at_most("CPU of ingest", [3, 1, 2], None, "us/obs")

    assert (figure.ours, figure.met) == (2, None)


def test_the_figures_are_told_as_json_and_as_tables_for_the_page() -> None:
    figures = [replace(at_most("p99", [12.5], 100, "ms"), group="REST")]

    written = json.loads(as_json(figures, {"machine": "two cores"}))

    assert written["figures"][0]["ours"] == 12.5
    assert "## REST" in markdown(figures)
    assert "| p99 | 30 ms | 12.5 ms | <= 100 | yes |" in markdown(figures, {"p99": "30 ms"})


def test_sizes_on_the_command_line_go_before_the_quick_ones() -> None:
    chosen = settings_of(arguments(["--quick", "engine", "--runs", "7", "--growth-history", "10", "20"]))

    assert (chosen.runs, chosen.growth_history) == (7, (10, 20))
    assert chosen.engine_events == QUICK.engine_events


def test_two_releases_are_compared_within_their_pairs_and_not_across() -> None:
    fast, slow = Run(100.0, {ALL: 10.0}), Run(50.0, {ALL: 20.0})

    shown = table_of_pairs([(fast, fast), (slow, slow), (slow, Run(40.0, {ALL: 25.0}))])
    ratios = list(shown.columns[3].cells)

    assert ratios == ["1.000", "1.000"]
