"""Which models of kind `batch` and `trainer` a spec may name, and what it may give them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.builders.loops import loop_spec

from everloop_models.batch.allowed import AllowedEstimators, BatchSettings
from everloop_models.batch.catalogue import catalogue
from everloop_models.batch.estimators import check_trained
from everloop_models.batch.parameters import Kind, parameter_error, read_kind
from everloop_models.errors import ModelSpecInvalid
from everloop_schemas.loop_parts import ModelSpec
from everloop_shared.errors import Misconfigured

ALL = AllowedEstimators.of("sklearn,xgboost,lightgbm")
FOREST, BOOSTING = "sklearn.ensemble.RandomForestClassifier", "sklearn.ensemble.HistGradientBoostingRegressor"


def refused(task: str = "binary", allowed: AllowedEstimators = ALL, **model: Any) -> str:
    """Why a model is refused, with the field."""
    with pytest.raises(ModelSpecInvalid) as caught:
        check_trained(ModelSpec.model_validate(model), loop_spec(task=task), allowed)
    return str(caught.value)


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("binary", {"estimator": FOREST, "n_estimators": 200, "max_depth": None, "criterion": "entropy"}),
        ("regression", {"estimator": BOOSTING, "max_iter": 200, "learning_rate": 0.05, "window": 20_000, "every": 500}),
        ("multiclass", {"estimator": "lightgbm.LGBMClassifier", "num_leaves": 63}),
        ("regression", {"estimator": "xgboost.XGBRegressor", "max_depth": 4, "subsample": 0.8}),
        ("binary", {"trainer": "pytorch", "layers": "64,32", "dropout": 0.1, "early": True}),
    ],
)
def test_a_model_that_can_be_trained_is_taken(task: str, model: dict[str, Any]) -> None:
    check_trained(ModelSpec.model_validate(model), loop_spec(task=task), ALL)


def test_a_regressor_for_classes_is_refused_with_estimators_that_fit() -> None:
    reason = refused("binary", estimator=BOOSTING)

    assert reason.startswith(f"models.0.estimator: {BOOSTING} is for regression, and the loop's task is binary")
    assert "sklearn.ensemble.HistGradientBoostingClassifier" in reason


def test_a_class_that_has_no_equal_in_onnx_is_refused_with_those_that_have() -> None:
    assert "models.0.estimator: sklearn.dummy.DummyClassifier is not known, or has no equal in ONNX" in refused(
        estimator="sklearn.dummy.DummyClassifier"
    )


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("n_estimators", 1_000_000, "must be a whole number from 1 to 2,000"),
        ("n_estimators", 0, "must be a whole number from 1 to 2,000"),
        ("n_estimators", 1.5, "must be a whole number from 1 to 2,000"),
        ("n_estimators", True, "must be a whole number from 1 to 2,000"),
        ("max_depth", 10_000, "must be a whole number from 1 to 64 or null"),
        ("criterion", "/etc/passwd", "must be one of entropy, gini, log_loss"),
        ("bootstrap", "yes", "must be true or false"),
        ("n_jobs", -1, "is no parameter that a spec may give to"),
        ("verbose", 5, "is no parameter that a spec may give to"),
        ("warm_start", True, "is no parameter that a spec may give to"),
        ("callbacks", "x", "is no parameter that a spec may give to"),
    ],
)
def test_a_parameter_that_no_loop_needs_is_refused_with_what_it_may_be(name: str, value: Any, fix: str) -> None:
    assert refused(estimator=FOREST, **{name: value}).startswith(f"models.0.{name}: {fix}")


def test_what_the_operator_does_not_allow_is_refused_with_what_is_allowed() -> None:
    allowed = AllowedEstimators.of("sklearn.linear_model, lightgbm.LGBMClassifier")

    reason = refused(allowed=allowed, estimator=FOREST)

    assert (
        "is not allowed here by EVERLOOP_TRAINING_ALLOW: it allows sklearn.linear_model, lightgbm.LGBMClass" in reason
    )
    check_trained(ModelSpec(estimator="lightgbm.LGBMClassifier"), loop_spec(), allowed)
    check_trained(ModelSpec(estimator="sklearn.linear_model.LogisticRegression"), loop_spec(), allowed)
    assert "not allowed" in refused(allowed=allowed, estimator="sklearn.linear_models.LogisticRegression")


def test_none_allows_no_batch_lines() -> None:
    assert "it allows no batch lines" in refused(allowed=AllowedEstimators.of("none"), estimator=FOREST)


def test_by_default_what_is_not_installed_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everloop_models.batch.allowed.find_spec", lambda name: None)

    reason = refused(allowed=AllowedEstimators.of(""), estimator="xgboost.XGBClassifier")

    assert "xgboost.XGBClassifier needs sklearn, skl2onnx, onnxmltools, xgboost, not installed here" in reason
    assert "pip install 'everloop[boosting]'" in reason


def test_what_the_operator_allows_by_name_need_not_be_installed_beside_the_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("everloop_models.batch.allowed.find_spec", lambda name: None)

    check_trained(ModelSpec(estimator=FOREST), loop_spec(), ALL)


@pytest.mark.parametrize("value", ["os", "sklearn.", "sklearn.ensemble.forest;x", "*", "river"])
def test_an_entry_that_is_no_path_stops_the_service_with_the_variable_named(value: str) -> None:
    with pytest.raises(Misconfigured, match=r"TRAINING_ALLOW.*each entry must be sklearn, xgboost, lightgbm"):
        BatchSettings.load("registry", {"EVERLOOP_TRAINING_ALLOW": value})


def test_registry_and_training_read_the_same_variable() -> None:
    environment = {"EVERLOOP_TRAINING_ALLOW": "sklearn, xgboost"}

    found = {BatchSettings.load(service, environment).training_allow for service in ("registry", "training")}

    assert found == {"sklearn, xgboost"}


@pytest.mark.parametrize(("name", "value"), [("window", 10), ("every", 1), ("window", 5_000_000)])
def test_a_window_or_interval_out_of_bounds_is_refused(name: str, value: int) -> None:
    model: dict[str, Any] = {"estimator": FOREST, name: value}

    assert refused(**model).startswith(f"models.0.{name}: must be from ")


def test_long_texts_for_a_trainer_are_refused() -> None:
    assert "at most 256 characters" in refused(trainer="pytorch", note="x" * 300)


def test_the_catalogue_has_the_usual_estimators_for_their_tasks() -> None:
    tasks = {path: entry.tasks for path, entry in catalogue().items()}

    assert tasks["sklearn.ensemble.HistGradientBoostingClassifier"] == ("binary", "multiclass")
    assert tasks["sklearn.linear_model.Ridge"] == ("regression",)
    assert tasks["xgboost.XGBClassifier"] == tasks["lightgbm.LGBMClassifier"] == ("binary", "multiclass")


@pytest.mark.parametrize("path", sorted(catalogue()))
def test_no_parameter_of_the_catalogue_is_about_threads_files_or_output(path: str) -> None:
    parts = ("n_jobs", "thread", "verbos", "callback", "path", "file", "device", "warm", "memory", "silent")

    assert not [name for name in catalogue()[path].parameters if any(part in name for part in parts)]


@pytest.mark.parametrize(
    "kind",
    [
        Kind("integer", 1, 2_000),
        Kind("number", 0, 1, above=True),
        Kind("text", texts=("gini", "log_loss")),
        Kind("boolean"),
        Kind("none"),
        Kind("number", -1e6, 1e6),
    ],
    ids=str,
)
def test_a_kind_is_read_as_it_was_written(kind: Kind) -> None:
    assert read_kind(str(kind)) == kind


def test_a_number_that_must_be_above_its_bound_is_not_at_it() -> None:
    kinds = [Kind("number", 0, 1, above=True)]

    assert parameter_error(kinds, 0) == "must be a number above 0 and up to 1"
    assert parameter_error(kinds, float("nan")) is not None
    assert parameter_error(kinds, 1e-9) is None
