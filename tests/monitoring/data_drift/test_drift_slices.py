"""Which slices a drift is concentrated in: those that it is in, and none where it is everywhere."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from pydantic import TypeAdapter
from tests.builders.loops import loop_spec
from tests.monitoring.data_drift.streams import SPEC, changed, drift_watch, drifts, features, label_drifts, predictions

from everloop_monitoring.domain.data_drift.watch import DriftWatch
from everloop_schemas.envelope import Fields
from everloop_schemas.monitoring import DriftDetected

STATE = TypeAdapter(DriftWatch)
SLICED: dict[str, Any] = {
    "schema": {**SPEC["schema"], "region": {"type": "string"}, "age": {"type": "number"}},
    "monitor": {"drift": ["price", "demand", "plan"], "slices": ["region", "age"]},
}
REGIONS = ("north", "north", "south", "east", "west")
"""A north that has twice as many records, and other prices."""


def rows(n: int, seed: int) -> list[Fields]:
    """Records with a region, whose level of prices is its own, and an age."""
    rng, found = Random(seed), list[Fields]()
    for row in features(n, seed):
        region = rng.choice(REGIONS)
        price = float(row["price"] or 0) + 2 * REGIONS.index(region)
        found.append({**row, "price": price, "region": region, "age": float(rng.randint(18, 80))})
    return found


def first_drift(seed: int, change: Callable[[Fields], Fields]) -> DriftDetected:
    """The first drift after a change of the records at row 1,100."""
    return drifts(drift_watch(**SLICED), predictions(changed(rows(2000, seed), 1100, change)))[0][1]


def in_slice(name: str, where: Callable[[Fields], bool], change: Callable[[Fields], Fields]) -> Any:
    return pytest.param(lambda row: change(row) if where(row) else row, id=name)


def is_south(row: Fields) -> bool:
    return row["region"] == "south"


def raise_demand(row: Fields) -> Fields:
    return {**row, "demand": float(row["demand"] or 0) + 2.0}


def lose_demand(row: Fields) -> Fields:
    return {**row, "demand": None}


def lose_price(row: Fields) -> Fields:
    return {**row, "price": None}


def to_gold(row: Fields) -> Fields:
    return {**row, "plan": "gold"}


@pytest.mark.parametrize(
    "change",
    [
        in_slice("shifted", is_south, raise_demand),
        in_slice("missing", is_south, lose_demand),
        in_slice("a category", is_south, to_gold),
        in_slice("of a field that differs by region", is_south, lose_price),
    ],
)
def test_a_drift_in_one_region_names_that_region_only(change: Callable[[Fields], Fields]) -> None:
    assert first_drift(1, change).data.slices == ("region=south",)


@pytest.mark.parametrize("change", [raise_demand, lose_demand, to_gold, lose_price])
def test_a_drift_everywhere_names_no_slice(change: Callable[[Fields], Fields]) -> None:
    assert first_drift(2, change).data.slices == ()


def test_ranges_of_numbers_are_slices_too() -> None:
    drift = first_drift(3, lambda row: raise_demand(row) if float(row["age"] or 0) >= 60 else row)

    assert drift.data.slices == ("age=70 and above", "age=55 to below 70")


def test_more_records_of_one_region_are_a_drift_of_no_region() -> None:
    """West is expensive: with more of it prices rise, but those of no region do."""
    moved = {"north": "west", "south": "south", "east": "east", "west": "west"}
    sold = {"north": 6.0}

    drift = first_drift(
        4,
        lambda row: {
            **row,
            "price": float(row["price"] or 0) + sold.get(str(row["region"]), 0.0),
            "region": moved[str(row["region"])],
        },
    )

    assert (drift.data.subject, drift.data.slices) == ("price", ())


def test_labels_that_drift_in_one_slice_name_it() -> None:
    rng, watch = Random(5), drift_watch(**SLICED)
    found = []
    for i, row in enumerate(rows(2200, 5)):
        is_true = rng.random() < (0.95 if i >= 1400 and row["region"] == "north" else 0.4)
        found += label_drifts(watch, [is_true], offset=i, features=row)

    [(_, drift)] = found
    assert (drift.data.kind, drift.data.slices) == ("label", ("region=north",))


def test_slices_of_any_values_are_bounded_and_a_restarted_watch_goes_on() -> None:
    rng, whole, restarted = Random(6), drift_watch(**SLICED), drift_watch(**SLICED)
    odd = [None, "x" * 999, True, 1e308, -(2**62), 0.5]
    stream = [
        {**row, "region": rng.choice([*odd, f"r{i}", "south"]), "age": rng.choice([*odd, rng.random()])}
        for i, row in enumerate(rows(2000, 6))
    ]
    events = list(predictions(changed(stream, 1200, lambda row: lose_demand(row) if is_south(row) else row)))

    expected = [drift for _, drift in drifts(whole, events)]
    found = []
    for start in range(0, 2000, 170):
        found += [drift for _, drift in drifts(restarted, events[start : start + 170])]
        restarted = STATE.validate_json(STATE.dump_json(restarted))

    assert found == expected
    assert restarted == whole
    assert expected[0].data.slices == ("region=south",)
    assert len(STATE.dump_json(whole)) < 60_000


def test_other_slices_begin_a_new_comparison() -> None:
    watch = drift_watch(**SLICED)
    drifts(watch, predictions(rows(1100, 1)))

    other = watch.follow(loop_spec(**{**SPEC, **SLICED, "monitor": {**SLICED["monitor"], "slices": ["region"]}}))

    assert watch.inputs.current is not None
    assert (other.inputs.current, other.inputs.slices, other.labels.slices) == (None, ("region",), ("region",))
