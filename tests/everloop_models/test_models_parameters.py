"""Every parameter of every estimator of the installed river has bounds, known before anything is built."""

from __future__ import annotations

import inspect
import pkgutil
import sys
import time
import warnings
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest
import river
from river import base
from tests.builders.loops import loop_spec

from everloop_models import ModelSpecInvalid
from everloop_models.formats.river.parameters import check_parameter
from everloop_models.trial import check_models
from everloop_schemas.loop import LoopSpec


def estimators() -> list[type[Any]]:
    """Every classifier and regressor that a spec could name."""
    found: set[type[Any]] = set()
    for module in pkgutil.walk_packages(river.__path__, "river."):
        if any(part in module.name for part in (".test", ".datasets", ".checks")):
            continue
        with warnings.catch_warnings(), suppress(ImportError):  # of libraries that are not installed
            warnings.simplefilter("ignore")
            import_module(module.name)
        classes = vars(sys.modules.get(module.name, river)).values()
        found |= {c for c in classes if inspect.isclass(c) and issubclass(c, base.Classifier | base.Regressor)}
    return sorted((c for c in found if not inspect.isabstract(c)), key=lambda c: f"{c.__module__}.{c.__name__}")


def spec(fields: int = 2, task: str = "binary", **model: Any) -> LoopSpec:
    """A loop of one model."""
    schema = {f"f{i}": {"type": "number"} for i in range(fields)}
    return loop_spec(task=task, schema=schema, models=[model])


def test_no_parameter_of_any_estimator_accepts_a_value_out_of_bounds() -> None:
    found = estimators()
    taken = []
    for cls in found:
        for name, parameter in inspect.signature(cls).parameters.items():
            for value in (10**9, 1e300, -(10**9), float("inf"), float("nan"), "x" * 1000):
                try:
                    check_parameter(parameter, value, name)
                except ModelSpecInvalid:
                    continue
                usual = parameter.default if isinstance(parameter.default, float | int) else 0
                if name != "seed" and not abs(float(value)) <= abs(usual):
                    taken.append((cls.__name__, name, value))

    assert len(found) > 60
    assert taken == []


def test_the_defaults_of_river_are_accepted() -> None:
    refused = []
    for cls in estimators():
        for name, parameter in inspect.signature(cls).parameters.items():
            if isinstance(parameter.default, bool | int | float | str | None):
                try:
                    check_parameter(parameter, parameter.default, name)
                except ModelSpecInvalid as e:
                    refused.append((cls.__name__, str(e)))

    assert refused == []


@pytest.mark.parametrize(
    ("model", "field", "message"),
    [
        ({"estimator": "river.forest.AMFClassifier", "n_estimators": 300_000}, "n_estimators", "to 100"),
        ({"estimator": "river.forest.AMFClassifier", "n_estimators": -1}, "n_estimators", "from 0"),
        ({"estimator": "river.forest.ARFClassifier", "lambda_value": 1_000_000}, "lambda_value", "to 100"),
        ({"estimator": "river.facto.HOFMClassifier", "degree": 101}, "degree", "to 100"),
        ({"estimator": "river.tree.HoeffdingTreeClassifier", "grace_period": -1}, "grace_period", "from 0"),
        ({"estimator": "river.tree.HoeffdingTreeClassifier", "max_depth": 10**18}, "max_depth", "to 10,000"),
        ({"estimator": "river.tree.HoeffdingTreeClassifier", "max_size": 1e12}, "max_size", "10,000"),
        ({"estimator": "river.tree.HoeffdingTreeClassifier", "splitter": 3}, "splitter", "object"),
        ({"estimator": "river.tree.HoeffdingTreeClassifier", "binary_split": 7}, "binary_split", "true or false"),
        ({"estimator": "river.tree.HoeffdingTreeClassifier", "grace_period": True}, "grace_period", "true or false"),
        ({"estimator": "river.tree.HoeffdingTreeClassifier", "grace_period": None}, "grace_period", "value"),
        ({"estimator": "river.forest.AMFClassifier", "seed": 2**63}, "seed", "to 4,294,967,295"),
        ({"preset": "hoeffding_tree", "leaf_prediction": 7}, "leaf_prediction", "must be text"),
        ({"preset": "logistic", "l2": 1e300}, "l2", "10,000"),
        ({"preset": "logistic", "l2": "much"}, "l2", "text"),
        ({"preset": "leveraging_bagging", "w": 1e6}, "w", "to 100"),
        ({"preset": "adaptive_forest", "trees": 100_000}, "trees", "to 100"),
    ],
)
def test_a_parameter_out_of_bounds_is_refused_before_the_build(model: dict[str, Any], field: str, message: str) -> None:
    started = time.process_time()

    with pytest.raises(ModelSpecInvalid) as refused:
        check_models(spec(**model))

    assert refused.value.field == f"models.0.{field}"
    assert message in refused.value.error
    assert time.process_time() - started < 5  # a collection of garbage may fall into it; the build takes longer


def test_usual_parameters_are_accepted() -> None:
    check_models(spec(estimator="river.forest.AMFClassifier", n_estimators=5, step=0.5, seed=7, split_pure=True))
    check_models(spec(preset="hoeffding_tree", grace_period=1000, max_depth=10, delta=1e-5, leaf_prediction="mc"))
    check_models(spec(preset="logistic", l2=0.001, learning_rate=0.1, intercept_init=-1.5))


def test_a_model_that_takes_too_long_per_event_is_refused_with_the_fix() -> None:
    with pytest.raises(ModelSpecInvalid, match=r"models\.0: takes [0-9,]+ ms per event; at most 20 ms"):
        check_models(spec(fields=500, preset="leveraging_bagging"))


def test_the_cost_of_a_model_that_learns_each_class_apart_counts_every_class() -> None:
    body = {
        "loop": "x",
        "task": "multiclass",
        "schema": {f"f{i}": {"type": "number"} for i in range(100)},
        "label": {"classes": [f"c{i}" for i in range(1000)]},
        "models": [{"preset": "logistic"}],
    }

    with pytest.raises(ModelSpecInvalid, match="ms per event"):
        check_models(LoopSpec.model_validate(body))
