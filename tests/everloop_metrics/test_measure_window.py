"""The window of the latest outcomes is what those outcomes give, in whatever order they are corrected."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pytest
from pydantic import TypeAdapter

from everloop_metrics import metric_input, score_of
from everloop_metrics.fairness import COMPARED, GroupSums, measure
from everloop_metrics.measure_window import BLOCK_OUTCOMES, BLOCKS, MAX_LINES, LinePrediction, MeasureWindow
from everloop_schemas.envelope import Scalar

LINES = ("a-0", "b-0")


@dataclass
class Known:
    """An outcome as it counts now."""

    offset: int
    features: dict[str, Scalar | None]
    label: bool | None
    predictions: list[LinePrediction]


def outcomes(n: int, seed: int) -> list[Known]:
    random, made = Random(seed), []
    for i in range(n):
        features: dict[str, Scalar | None] = {"sex": random.choice("fm"), "age": random.uniform(18, 80)}
        predictions = []
        for line in LINES:
            chance = random.random()
            predictions.append(LinePrediction(line, chance > 0.5, {"true": chance, "false": 1 - chance}))
        label = None if random.random() < 0.1 else random.random() < 0.4
        made.append(Known(3 * i, features, label, predictions))
    return made


def count(window: MeasureWindow, one: Known, sign: int) -> None:
    if one.label is not None:
        window.add(one.offset, one.features, one.label, one.predictions, sign)


def play(window: MeasureWindow, made: list[Known], seed: int) -> list[Known]:
    """Add the outcomes, and correct earlier ones at random meanwhile; the outcomes as they count at the end."""
    random = Random(seed)
    for i, one in enumerate(made):
        window.begin_outcome(one.offset, one.features)
        count(window, one, 1)
        if random.random() < 0.4:
            corrected = made[random.randrange(i + 1)]
            count(window, corrected, -1)
            corrected.label = random.choice((True, False, None))
            count(window, corrected, 1)
    return made


def plain_sums(kept: list[Known], line: str, name: str, window: MeasureWindow) -> dict[str, GroupSums]:
    sums: dict[str, GroupSums] = {}
    for one in kept:
        made = next(p for p in one.predictions if p.line == line)
        group = window.groups[name].name_of(one.features[name])
        if one.label is not None and made.probabilities:
            sums.setdefault(group, GroupSums()).add(one.label, made.value is True, made.probabilities["true"])
    return sums


@pytest.mark.parametrize("n", [150, 900, 3000])
def test_after_corrections_in_any_order_the_sums_are_those_of_the_outcomes_that_are_left(n: int) -> None:
    window = MeasureWindow(("sex", "age"), ("accuracy", "f1", "log_loss"))
    made = play(window, outcomes(n, seed=n), seed=2)
    kept = [one for one in made if one.offset >= window.blocks[0].start]

    for line in LINES:
        sums = window.sums_of(line)
        labelled = [(one, next(p for p in one.predictions if p.line == line)) for one in kept if one.label is not None]
        assert sums.outcomes == len(labelled)
        for metric, of in sums.metrics.items():
            plain = [metric_input(metric, one.label or False, p.value, p.probabilities) for one, p in labelled]
            assert of.score(metric) == pytest.approx(score_of(metric, plain), abs=1e-12)
        if n > BLOCK_OUTCOMES:  # before that ages have no ranges yet
            assert sums.fields["age"] == plain_sums(kept, line, "age", window)
            assert all(measure(name, sums.fields["age"]).value is not None for name in COMPARED)
        assert sums.fields["sex"] == plain_sums(kept, line, "sex", window)


def test_it_holds_the_latest_outcomes_only() -> None:
    window = MeasureWindow(("sex",))
    play(window, outcomes(5000, seed=1), seed=1)

    held = sum(block.outcomes for block in window.blocks)

    assert (BLOCKS - 1) * BLOCK_OUTCOMES < held <= BLOCKS * BLOCK_OUTCOMES


def test_a_correction_of_an_outcome_that_has_left_changes_nothing() -> None:
    window = MeasureWindow(("sex",))
    made = play(window, outcomes(5000, seed=1), seed=1)
    before = window.sums_of("a-0")

    count(window, made[0], -1)

    assert window.sums_of("a-0") == before


def test_the_state_is_bounded_whatever_the_records_hold_and_survives_json() -> None:
    window, form = MeasureWindow(tuple(f"field-{i}" for i in range(5))), TypeAdapter(MeasureWindow)
    for i in range(2500):
        features: dict[str, Scalar | None] = {name: f"{i % 25}-{'x' * 250}" for name in window.fields}
        predictions = [LinePrediction(f"line-{line}", True, {"true": 0.3}) for line in range(20)]
        window.begin_outcome(i, features)
        window.add(i, features, True, predictions)

    text = form.dump_json(window)

    assert len(text) < 1_500_000
    assert len(window.lines()) == MAX_LINES
    assert form.validate_json(text) == window
