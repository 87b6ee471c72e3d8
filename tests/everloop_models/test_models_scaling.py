"""Wild values: one, or one in a hundred, ruins neither a scale nor a model, and every prediction is finite."""

from __future__ import annotations

import math
import pickle
import random
from typing import Any

import pytest
from tests.builders.loops import loop_spec

from everloop_models import OnlineModel, build, save, verify_and_load
from everloop_models.formats.river.model import RiverModel
from everloop_models.scaling import FAR_OUT_VALUE, FIRST_VALUES, Column, TargetColumn
from everloop_schemas.envelope import Fields, Scalar

HUGE = 1.7976931348623157e308
MODELS: list[dict[str, Any]] = [
    {"preset": "logistic"},
    {"preset": "naive_bayes"},
    {"preset": "hoeffding_tree"},
    {"preset": "adaptive_forest", "trees": 2},
    {"preset": "leveraging_bagging", "n_models": 2},
    {"estimator": "river.linear_model.LogisticRegression"},
    {"estimator": "river.linear_model.LogisticRegression", "scale": "standard"},
]
REGRESSORS: list[dict[str, Any]] = [
    {"preset": "linear"},
    {"preset": "hoeffding_tree"},
    {"preset": "adaptive_forest", "trees": 2},
]


def model_of(task: str, **model: Any) -> OnlineModel:
    schema = {"x": {"type": "number"}, "y": {"type": "number"}}
    loop = loop_spec(task=task, schema=schema, models=[model])
    return build(loop.models[0], loop)


def rows(n: int, task: str) -> list[tuple[Fields, Scalar]]:
    rng = random.Random(7)
    drawn = [(rng.random(), rng.random()) for _ in range(n)]
    return [({"x": x, "y": y}, 100 * x if task == "regression" else x > 0.5) for x, y in drawn]


def accuracy(model: OnlineModel, stream: list[tuple[Fields, Scalar]], last: int) -> float:
    hits = []
    for features, label in stream:
        hits.append(model.predict(features).value == label)
        model.learn(features, label)
    return sum(hits[-last:]) / last


def error(model: OnlineModel, stream: list[tuple[Fields, Scalar]], last: int) -> float:
    errors = []
    for features, label in stream:
        errors.append(abs(float(model.predict(features).value) - float(label)))
        model.learn(features, label)
    return sum(errors[-last:]) / last


@pytest.mark.parametrize("outlier", [-9999.0, HUGE, -HUGE, 1e19])
@pytest.mark.parametrize("at", [0, 3, 500])
def test_one_outlier_costs_the_logistic_preset_nothing(outlier: float, at: int) -> None:
    stream = rows(1500, "binary")
    clean = accuracy(model_of("binary", preset="logistic"), stream, 500)
    stream[at] = ({"x": outlier, "y": 0.5}, True)

    assert accuracy(model_of("binary", preset="logistic"), stream, 500) >= clean - 0.01 > 0.9


def test_a_model_learns_though_one_value_in_a_hundred_is_a_code_for_missing() -> None:
    rng = random.Random(3)
    stream = [({**f, "x": -9999.0} if rng.random() < 0.01 else f, y) for f, y in rows(3000, "binary")]

    assert accuracy(model_of("binary", preset="logistic"), stream, 1000) > 0.9


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.get('preset', 'estimator')}-{m.get('scale', '')}")
@pytest.mark.parametrize("at", [0, 5, 400])
def test_every_model_predicts_finite_values_on_and_after_the_largest_doubles(model: dict[str, Any], at: int) -> None:
    stream = rows(600, "binary")
    stream[at], stream[at + 1] = ({"x": HUGE, "y": -HUGE}, True), ({"x": -HUGE, "y": HUGE}, False)
    built = model_of("binary", **model)

    accuracy(built, stream, 100)  # raises ModelBroken where one is not

    assert built.predict({"x": 0.5, "y": 0.5}).probabilities is not None


@pytest.mark.parametrize("model", REGRESSORS, ids=lambda m: str(m["preset"]))
@pytest.mark.parametrize("at", [0, 1, 700])
def test_one_outlier_among_the_labels_does_not_ruin_a_regression(model: dict[str, Any], at: int) -> None:
    stream = rows(2000, "regression")
    stream[at] = (stream[at][0], 1e19)

    assert error(model_of("regression", **model), stream, 500) < 10  # the mean of the labels is 25 off


def test_labels_that_are_nearly_always_zero_can_still_be_predicted() -> None:
    rng = random.Random(5)
    stream: list[tuple[Fields, Scalar]] = []
    for _ in range(4000):
        rains = rng.random() < 0.03
        stream.append(({"x": float(rains), "y": 0.0}, 7.0 if rains else 0.0))
    model = model_of("regression", preset="linear")
    error(model, stream, 100)

    assert float(model.predict({"x": 1.0, "y": 0.0}).value) > 1.0
    assert abs(float(model.predict({"x": 0.0, "y": 0.0}).value)) < 1.0


def test_a_linear_model_survives_the_spikes_of_its_features() -> None:
    rng = random.Random(11)
    stream: list[tuple[Fields, Scalar]] = []
    for i in range(5000):
        x, y = rng.gauss(0, 1), rng.gauss(0, 1)
        stream.append(({"x": 15 * x if i % 40 == 0 else x, "y": y}, 3 * x + y))

    assert error(model_of("regression", preset="linear"), stream, 1000) < 3


def test_a_column_that_changes_its_unit_is_learned_again() -> None:
    rng, column = random.Random(1), Column()
    for _ in range(500):
        column.learn(rng.gauss(20, 2))

    for _ in range(100):
        column.learn(rng.gauss(2930, 20))

    assert abs(column.scaled(2930)) < 0.5
    assert 1 < column.scaled(2970) < 3


def test_a_column_that_is_nearly_always_the_same_still_shows_when_it_differs() -> None:
    column = Column()
    for i in range(1000):
        column.learn(float(i % 100 == 99))

    assert column.scaled(1.0) == FAR_OUT_VALUE
    assert abs(column.scaled(0.0)) < 0.2


def test_a_quarter_of_outliers_in_the_first_values_does_not_move_the_scale() -> None:
    rng, column = random.Random(2), Column()
    for i in range(FIRST_VALUES):
        column.learn(-9999.0 if i % 5 == 0 else rng.random())

    assert 0 < column.scale < 1
    assert 0 <= column.centre <= 1


def test_a_target_that_was_always_the_same_gets_a_scale_with_the_first_other_label() -> None:
    column = TargetColumn()
    for _ in range(100):
        column.learn(5.0)

    for i in range(100):
        column.learn(5.0 + i % 10)

    assert column.scale > 1


@pytest.mark.parametrize("seen", [5, FIRST_VALUES - 1, FIRST_VALUES, 400])
def test_a_model_restored_in_the_middle_goes_on_to_the_same_bytes(seen: int) -> None:
    stream = rows(500, "binary")
    straight = model_of("binary", preset="logistic")
    accuracy(straight, stream, 10)
    broken_off = model_of("binary", preset="logistic")
    accuracy(broken_off, stream[:seen], 1)

    restored = pickle.loads(pickle.dumps(broken_off))
    accuracy(restored, stream[seen:], 10)

    assert save(restored).sha256 == save(straight).sha256


def test_an_artifact_of_a_release_that_did_not_clip_values_still_predicts_and_learns() -> None:
    model = model_of("binary", preset="logistic")
    accuracy(model, rows(100, "binary"), 10)
    before = RiverModel.__new__(RiverModel)
    state = {k: v for k, v in vars(model).items() if k not in ("target", "_early")}
    before.__setstate__({**state, "regression": False, "scaler": None})

    artifact = save(before)
    loaded = verify_and_load(artifact.data, artifact.sha256)
    loaded.learn({"x": HUGE, "y": 0.1}, True)

    probabilities = loaded.predict({"x": 0.4, "y": 0.1}).probabilities
    assert probabilities is not None
    assert math.isclose(sum(probabilities.values()), 1)
