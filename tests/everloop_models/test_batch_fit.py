"""A batch model is trained, becomes an ONNX model that says the same, or is refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from tests.builders.loops import loop_spec

from everloop_models.errors import ModelBroken
from everloop_models.formats import check, load
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(120)]
LABEL_TYPES = {"binary": "boolean", "multiclass": "string", "regression": "number"}
CLASSIFIERS = (
    "sklearn.ensemble.HistGradientBoostingClassifier",
    "sklearn.linear_model.LogisticRegression",
    "sklearn.linear_model.SGDClassifier",
    "xgboost.XGBClassifier",
    "lightgbm.LGBMClassifier",
)
REGRESSORS = (
    "sklearn.ensemble.HistGradientBoostingRegressor",
    "sklearn.ensemble.ExtraTreesRegressor",
    "sklearn.linear_model.Ridge",
    "sklearn.neural_network.MLPRegressor",
    "xgboost.XGBRegressor",
    "lightgbm.LGBMRegressor",
)


def spec_for(task: str, **label: Any) -> LoopSpec:
    return loop_spec(task=task, label={"type": LABEL_TYPES[task], **label})


def small(path: str) -> ModelSpec:
    """An estimator that trains in a moment."""
    fewer = {"n_estimators": 20} if "Boost" not in path and ("Trees" in path or "GBM" in path or "XGB" in path) else {}
    fewer |= {"max_iter": 30} if "HistGradient" in path else {}
    return ModelSpec(estimator=path, **fewer)


@pytest.fixture
def train() -> Callable[..., Any]:
    """The function under test, imported where its libraries are."""
    from everloop_models.batch.fit import train

    return train


@pytest.fixture
def sample_rows() -> Callable[..., list[Any]]:
    """Rows with missing numbers, an integer and a text."""
    from everloop_models.batch.survey import sample_rows

    return sample_rows


@pytest.mark.parametrize(
    ("path", "task"),
    [
        *((path, task) for path in CLASSIFIERS for task in ("binary", "multiclass")),
        *((p, "regression") for p in REGRESSORS),
    ],
)
def test_a_trained_model_is_served_from_its_bytes_alone(path: str, task: str, train: Any, sample_rows: Any) -> None:
    rows = sample_rows(task)

    trained = train(small(path), spec_for(task), rows)

    check(trained.data, "onnx")
    model = load(trained.data, "onnx")
    assert model.signature == trained.signature == ("a", "b", "c", "word")
    right = [model.predict(row.features).value for row in rows[:200]]
    if task == "regression":
        assert sum(abs(v - row.label) for v, row in zip(right, rows, strict=False)) / 200 < 1.5  # of a deviation of 5
        assert trained.metrics.keys() == {"validation_mae", "validation_rmse", "training_mae", "training_rmse"}
    else:
        assert sum(v == row.label for v, row in zip(right, rows, strict=False)) > 140
        assert 0.6 < trained.metrics["validation_accuracy"] <= 1
    assert type(right[0]) is type(rows[0].label)


@pytest.mark.parametrize(
    "path", ["sklearn.ensemble.RandomForestClassifier", "xgboost.XGBClassifier", "lightgbm.LGBMClassifier"]
)
def test_the_same_rows_give_the_same_bytes(path: str, train: Any, sample_rows: Any) -> None:
    first, second = (train(small(path), spec_for("binary"), sample_rows("binary")) for _ in range(2))

    assert first.data == second.data


def test_the_file_names_what_it_was_made_with(train: Any, sample_rows: Any) -> None:
    import onnx

    trained = train(small("lightgbm.LGBMClassifier"), spec_for("binary"), sample_rows("binary"))

    properties = {each.key: each.value for each in onnx.load_from_string(trained.data).metadata_props}
    assert {"lightgbm", "skl2onnx", "python", "everloop"} < json.loads(properties["everloop.libraries"]).keys()


def test_what_is_missing_or_unknown_is_predicted_too(train: Any, sample_rows: Any) -> None:
    trained = train(small("sklearn.linear_model.LogisticRegression"), spec_for("multiclass"), sample_rows("multiclass"))

    unknown: list[Fields] = [{}, {"a": None, "word": "never seen"}, {"a": 1e30, "b": -1e30, "c": 2, "word": None}]
    assert all(load(trained.data, "onnx").predict(row).value in ("low", "middle", "high") for row in unknown)


def test_the_classes_are_those_of_the_window_in_the_order_of_the_spec(train: Any, sample_rows: Any) -> None:
    rows = [row for row in sample_rows("multiclass") if row.label != "middle"]
    spec = spec_for("multiclass", classes=["low", "middle", "high"])

    model = load(train(small("xgboost.XGBClassifier"), spec, rows).data, "onnx")

    assert list(model.predict(rows[0].features).probabilities or {}) == ["low", "high"]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (lambda i: True, "have the label True; a class more is needed"),
        (lambda i: i == 0, ""),
    ],
)
def test_a_window_needs_two_classes(labels: Callable[[int], bool], reason: str, train: Any, sample_rows: Any) -> None:
    rows = [row._replace(label=labels(i)) for i, row in enumerate(sample_rows("binary"))]

    if not reason:  # the only one of its class is in the first part: it can be trained
        assert train(small("sklearn.tree.DecisionTreeClassifier"), spec_for("binary"), rows).data
        return
    with pytest.raises(ModelBroken, match=reason):
        train(small("sklearn.tree.DecisionTreeClassifier"), spec_for("binary"), rows)


def test_a_class_that_only_the_last_rows_have_leaves_no_validation(train: Any, sample_rows: Any) -> None:
    rows = [row._replace(label=i >= 395) for i, row in enumerate(sample_rows("binary"))]

    metrics = train(small("lightgbm.LGBMClassifier"), spec_for("binary"), rows).metrics

    assert metrics.keys() == {"training_accuracy", "training_log_loss"}


def test_few_rows_are_refused(train: Any, sample_rows: Any) -> None:
    with pytest.raises(ModelBroken, match="has 5 rows; a model is trained on 20 or more"):
        train(small("sklearn.linear_model.Ridge"), spec_for("regression"), sample_rows("regression", 5))


def test_parameters_that_the_library_refuses_are_named(train: Any, sample_rows: Any) -> None:
    model = ModelSpec(estimator="sklearn.linear_model.LogisticRegression", solver="lbfgs", dual=True)

    with pytest.raises(ModelBroken, match=r"LogisticRegression cannot be trained on these rows: .*dual"):
        train(model, spec_for("binary"), sample_rows("binary"))


def test_a_feature_that_is_text_in_some_rows_is_refused(train: Any, sample_rows: Any) -> None:
    rows = sample_rows("binary")
    rows[0].features["a"] = "one"

    with pytest.raises(ModelBroken, match="the feature 'a' is text in some rows and a number in others"):
        train(small("lightgbm.LGBMClassifier"), spec_for("binary"), rows)


def test_a_conversion_that_differs_is_refused_with_the_difference(
    train: Any, sample_rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.tree import DecisionTreeRegressor  # type: ignore[import-untyped]

    predict = DecisionTreeRegressor.predict
    monkeypatch.setattr(DecisionTreeRegressor, "predict", lambda self, x: predict(self, x) + 0.5)

    with pytest.raises(
        ModelBroken, match=r"differs from the trained one by up to 0\.5 in values of 4\d\d of 4\d\d rows"
    ):
        train(small("sklearn.tree.DecisionTreeRegressor"), spec_for("regression"), sample_rows("regression"))


def test_thresholds_between_two_neighbouring_numbers_of_32_bits_change_no_side(train: Any) -> None:
    from everloop_models.batch.rows import Row

    random, rows = Random(3), []
    for _ in range(600):
        value = 1.0 + random.randrange(40) * 2.0**-24  # every second one is a number of 32 bits
        label: Scalar = value >= 1.0 + 20 * 2.0**-24
        rows.append(Row({"a": value}, label))

    trained = train(small("sklearn.ensemble.HistGradientBoostingClassifier"), spec_for("binary"), rows)

    assert trained.metrics["training_accuracy"] > 0.95


def test_the_catalogue_says_of_each_estimator_what_the_installed_library_takes() -> None:
    from everloop_models.batch.catalogue import catalogue
    from everloop_models.batch.pipeline import estimator_class
    from everloop_models.batch.survey import BOOSTING, parameters_of

    for path, entry in catalogue().items():
        cls = estimator_class(path)
        if path not in BOOSTING:
            assert {name: list(kinds) for name, kinds in entry.parameters.items()} == parameters_of(cls), path
        assert entry.parameters.keys() <= cls().get_params().keys(), path


def test_a_file_names_usual_values_of_features_that_are_not_personal_alone(
    train: Callable[..., Any], sample_rows: Callable[..., list[Any]]
) -> None:
    import onnx

    schema: dict[str, Any] = {name: {"type": "number"} for name in ("a", "b", "c")}
    spec = loop_spec(task="regression", schema={**schema, "b": {"type": "number", "personal": True}})

    made = train(small("sklearn.linear_model.Ridge"), spec, sample_rows("regression", texts=False))

    metadata = {each.key: each.value for each in onnx.load_from_string(made.data).metadata_props}
    assert sorted(json.loads(metadata["everloop.usual"])) == ["a", "c"]
