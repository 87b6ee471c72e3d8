"""What a loop's watch says of its features, predictions and labels: once for each drift, and only of drifts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import chain
from math import pi, sin
from random import Random

import pytest
from pydantic import TypeAdapter
from tests.builders.events import prediction_made
from tests.builders.loops import NOW, loop_spec
from tests.monitoring.data_drift.streams import (
    SPEC,
    changed,
    drift_watch,
    drifts,
    features,
    label_drifts,
    predictions,
)

from everloop_monitoring.domain.data_drift.columns import MAX_CATEGORIES, MAX_CATEGORY_CHARACTERS
from everloop_monitoring.domain.data_drift.watch import DriftWatch
from everloop_schemas.envelope import Event, Fields
from everloop_schemas.monitoring import DriftDetected
from everloop_schemas.serving import PredictionMade

STATE = TypeAdapter(DriftWatch)


def set_to(name: str, value: float | str | None) -> Callable[[Fields], Fields]:
    return lambda row: {**row, name: value}


def add_to(name: str, amount: float) -> Callable[[Fields], Fields]:
    return lambda row: {**row, name: float(row[name] or 0) + amount}


@pytest.mark.parametrize(
    ("change", "name", "within"),
    [
        (set_to("price", None), "price", 100),
        (set_to("demand", 0.25), "demand", 150),
        (add_to("demand", 1.0), "demand", 400),
        (set_to("plan", "gold"), "plan", 200),
        (set_to("plan", "platinum"), "plan", 100),
    ],
    ids=["missing", "stuck", "shifted", "one category", "an unknown category"],
)
def test_the_feature_that_changed_is_named_first_with_the_time_of_the_change(
    change: Callable[[Fields], Fields], name: str, within: int
) -> None:
    events = predictions(changed(features(3000), 2000, change))

    [(at, drift)] = drifts(drift_watch(), events)

    assert (drift.data.kind, drift.data.subject, drift.data.features[0].name) == ("data", name, name)
    assert 2000 <= at < 2000 + within
    assert drift.data.features[0].p_value <= 1e-3
    assert name in drift.data.features[0].name
    assert drift.data.error_before is None


@pytest.mark.parametrize("correlation", [0.0, 0.9, 0.98])
def test_without_a_change_there_is_no_drift_however_alike_neighbours_are(correlation: float) -> None:
    assert drifts(drift_watch(), predictions(features(15_000, seed=7, correlation=correlation))) == []


def test_a_sensor_that_is_stuck_is_found_although_its_values_are_slow() -> None:
    events = predictions(changed(features(2600, seed=3, correlation=0.98), 2000, set_to("price", 0.5)))

    [(at, drift)] = drifts(drift_watch(), events)

    assert drift.data.features[0].name == "price"
    assert at < 2200


def by_the_day(n: int, seed: int) -> Iterator[Fields]:
    """A demand that rises and falls within each 48 rows, on days of which some are like the one before."""
    rng, day = Random(seed), 0.0
    for i, row in enumerate(features(n, seed)):
        day = 0.5 * day + rng.gauss(0, 0.6) if i % 48 == 0 else day
        yield {**row, "demand": 5 + day + 2 * sin(2 * pi * i / 48) + rng.gauss(0, 0.2)}


def test_numbers_beyond_all_that_came_before_are_told_although_days_differ_much() -> None:
    scaled = changed(by_the_day(2300, 1), 1500, lambda row: {**row, "demand": 1.6 * float(row["demand"] or 0)})

    [(at, drift)] = drifts(drift_watch(), predictions(scaled))

    assert (drift.data.subject, at < 2000) == ("demand", True)
    assert drifts(drift_watch(), predictions(by_the_day(4000, 1))) == []


@pytest.mark.parametrize("seed", [2, 6])
def test_slow_numbers_that_wander_beyond_all_that_came_before_are_no_drift(seed: int) -> None:
    """Each block of such a stream shows a moment only, so that the order of blocks proves nothing."""
    rng, level, rows = Random(seed), 0.0, []
    for row in features(6000, seed):
        level = 0.995 * level + 0.1 * rng.gauss(0, 1)
        rows.append({**row, "demand": level})

    assert drifts(drift_watch(), predictions(rows)) == []


def test_a_drift_is_told_once_and_the_new_state_becomes_the_reference() -> None:
    rows = changed(changed(features(6000), 2000, add_to("price", 2.0)), 4500, add_to("price", -2.0))

    found = drifts(drift_watch(), predictions(rows))

    assert [drift.data.subject for _, drift in found] == ["price", "price"]
    assert 2000 <= found[0][0] < 2300
    assert 4500 <= found[1][0] < 4800


def test_a_champion_of_another_line_has_a_reference_of_its_own_and_a_refresh_has_not() -> None:
    watch = drift_watch()
    rows = list(features(4000))

    drifts(watch, predictions(rows[:1500]))
    drifts(watch, predictions(rows[1500:1600], first=1500, version="logistic-0@1500"))
    refreshed = watch.inputs.coming
    drifts(watch, predictions(rows[1600:2700], first=1600, version="forest-1@1600"))

    assert refreshed is None
    assert watch.inputs.current
    assert watch.inputs.current.version == "forest-1@1600"


def test_a_drift_while_the_next_reference_is_gathered_is_told_too() -> None:
    watch = drift_watch()
    rows = list(changed(features(3000), 1800, set_to("price", None)))
    before = predictions(rows[:1500])
    after = predictions(rows[1500:], first=1500, version="forest-1@1600")

    [(at, drift)] = drifts(watch, chain(before, after))

    assert (at < 1900, drift.data.subject, drift.data.version) == (True, "price", "forest-1@1600")


def test_the_champions_own_prediction_counts_where_a_canary_was_served() -> None:
    watch, rng = drift_watch(monitor={"drift": ["price"]}), Random(1)

    def event(i: int) -> PredictionMade:
        own = rng.random() < 0.5
        shadow = {"version": "logistic-0@30", "prediction": own}
        row = {"price": rng.random()}
        if i < 1500:
            return prediction_made(f"p{i}", own, features=row, version="logistic-0@30", role="champion")
        return prediction_made(f"p{i}", True, features=row, version="b@9", role="canary", shadows=(shadow,))

    assert drifts(watch, map(event, range(3000))) == []
    assert watch.inputs.version == "logistic-0@30"


def test_predictions_and_labels_drift_without_any_feature() -> None:
    rng = Random(4)
    rows = list(features(3000))
    answers = [rng.random() < (0.5 if i < 2000 else 0.95) for i in range(3000)]
    events = (next(predictions([row], first=i, prediction=answers[i])) for i, row in enumerate(rows))

    [(_, predicted)] = drifts(drift_watch(), events)
    [(at, labelled)] = label_drifts(drift_watch(), answers)

    assert (predicted.data.kind, predicted.data.subject) == ("prediction", "prediction")
    assert (labelled.data.kind, labelled.data.subject) == ("label", "label")
    assert labelled.data.offset == at
    assert 1900 <= labelled.data.change_point <= 2050
    assert labelled.data.outcomes_since_change == labelled.data.outcomes - labelled.data.change_point


def test_the_change_point_is_an_outcome_from_which_a_run_can_start() -> None:
    watch = drift_watch()
    rows = list(changed(features(2400), 2000, set_to("price", None)))
    found = list[Event]()
    for i, event in enumerate(predictions(rows)):
        found += watch.add_prediction(event, NOW)
        if not found:
            label_drifts_at(watch, i)

    [drift] = found
    assert isinstance(drift, DriftDetected)

    assert 1950 <= drift.data.change_point <= drift.data.offset < 2060


def label_drifts_at(watch: DriftWatch, offset: int) -> None:
    watch.offset, watch.outcomes = offset, offset + 1


def test_a_prediction_that_comes_again_counts_once() -> None:
    watch = drift_watch()
    events = list(predictions(features(500)))

    drifts(watch, [*events, *events[:100]])

    assert watch.seen.duplicates == 100
    assert watch.inputs.coming
    assert watch.inputs.coming.values == 500


def test_what_comes_long_after_newer_predictions_is_not_compared() -> None:
    watch = drift_watch()
    rows = list(features(700))

    drifts(watch, predictions(rows[500:], first=500, time=NOW + timedelta(hours=1)))
    drifts(watch, predictions(rows[:500]))

    assert watch.inputs.coming
    assert (watch.inputs.coming.values, watch.late) == (200, 500)


def test_a_clock_that_was_ahead_for_a_moment_makes_nothing_late() -> None:
    watch = drift_watch()
    [ahead] = predictions(features(1), time=NOW + timedelta(days=9))

    watch.add_prediction(ahead, NOW)
    drifts(watch, predictions(features(100), first=1))

    assert watch.late == 0


def test_only_the_named_features_are_watched_and_other_ones_begin_anew() -> None:
    watch = drift_watch(monitor={"drift": ["demand"]})
    drifts(watch, predictions(features(1500)))

    other = watch.follow(loop_spec(**{**SPEC, "monitor": {"drift": ["price", "plan"]}}))
    assert watch.inputs.current

    assert drifts(watch, predictions(features(800), first=1500)) == []
    assert [column.column.name for column in watch.inputs.current.columns] == ["demand", "prediction"]
    assert watch.follow(loop_spec(**{**SPEC, "monitor": {"drift": ["demand"]}})) is watch
    assert (other.features, other.inputs.current, other.inputs.coming) == (("price", "plan"), None, None)
    assert not DriftWatch.is_on(loop_spec())


def test_the_state_is_bounded_whatever_the_values_are() -> None:
    watch, rng = drift_watch(), Random(5)

    def odd(i: int) -> Fields:
        text = f"{i}" * rng.choice([1, 200])
        return {"price": rng.choice([1e308, -1e308, 2**62, 0.0, -0.0]), "demand": float(i), "plan": text}

    drifts(watch, predictions(map(odd, range(4000))))

    assert watch.inputs.current
    [_, _, plan, _] = [counted.column for counted in watch.inputs.current.columns]
    assert len(plan.places) == MAX_CATEGORIES
    assert max(map(len, plan.places)) <= MAX_CATEGORY_CHARACTERS
    assert len(STATE.dump_json(watch)) < 60_000


def test_a_restarted_watch_goes_on_where_it_was() -> None:
    events = list(predictions(changed(features(2600), 2000, add_to("demand", 1.0))))
    whole, restarted = drift_watch(), drift_watch()

    expected = drifts(whole, events)
    found = []
    for start in range(0, 2600, 333):
        found += [drift for _, drift in drifts(restarted, events[start : start + 333])]
        restarted = STATE.validate_json(STATE.dump_json(restarted))

    assert found == [drift for _, drift in expected]
    assert restarted == whole
