"""The search of a loop file: what is read, and what is refused by field with the fix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.registry.registry_harness import market_spec
from tests.registry.spec_refusals import BINARY, errors_of

from everloop_registry.adapters.spec_checks import ChildProcessSpecChecks
from everloop_registry.domain.spec_file import read_spec
from everloop_schemas.loop import LoopSpec
from everloop_schemas.search_spec import ParameterRange

TREE = BINARY + "models: [{preset: hoeffding_tree}, {trainer: elsewhere}]\nsearch: "
BOOSTED = {"estimator": "sklearn.ensemble.HistGradientBoostingClassifier"}


@pytest.fixture
async def checks() -> AsyncIterator[ChildProcessSpecChecks]:
    """The checks as the service has them."""
    async with ChildProcessSpecChecks() as limited:
        yield limited


def test_a_search_is_read_whole_and_survives_the_log() -> None:
    text = f"""{TREE}
  trials: 20
  metric: log_loss
  space: {{models.0.max_depth: [3, 10], models.0.delta: {{log: [1.0e-7, 0.1]}}, models.0.splitter: {{choice: [a, b]}}}}
  every: 10000 outcomes
  budget: 5m
  features: 4"""

    spec = read_spec(text.encode(), is_json=False)

    assert spec.search is not None
    assert (spec.search.trials, spec.search.every, spec.search.budget_s) == (20, 10_000, 300.0)
    assert spec.search.of_model(0) == {
        "max_depth": ParameterRange(between=(3, 10)),
        "delta": ParameterRange(log=(1e-7, 0.1)),
        "splitter": ParameterRange(choice=("a", "b")),
    }
    for kept in (spec.model_dump_json(by_alias=True), spec.model_dump_json(by_alias=True, exclude_none=True)):
        assert LoopSpec.model_validate_json(kept) == spec


@pytest.mark.parametrize(
    ("search", "field", "says"),
    [
        ("{features: 1, metric: mae}", "search.metric", "use one of accuracy"),
        ("{}", "search", "needs a space"),
        ("{features: 1, trails: 5}", "search.trails", "did you mean trials"),
        ("{features: 1, budget: 2d}", "search.budget", "1 s to 1 day"),
        ("{features: 1, every: 50}", "search.every", "100"),
        ("{features: 1, every: 100000000}", "search.every", "up to 10,000,000"),
        ("{space: {max_depth: [3, 10]}}", "search.space.max_depth", "models.0.max_depth"),
        ("{space: {models.2.max_depth: [3, 10]}}", "search.space.models.2.max_depth", "0 to 1"),
        ("{space: {models.1.max_depth: [3, 10]}}", "search.space.models.1.max_depth", "trained elsewhere"),
        ("{space: {models.0.scale: {choice: [true, false]}}}", "search.space.models.0.scale", "no parameter"),
        ("{space: {models.0.splitter: {choice: [a, a]}}}", "search.space.models.0.splitter", "twice"),
        ("{space: {models.0.splitter: {choice: [a, '']}}}", "search.space.models.0.splitter", "empty"),
        ("{space: {models.0.max_depth: [3, 1.0e+40]}}", "search.space.models.0.max_depth", "64 bits"),
        ("{space: {models.0.max_depth: [10, 3]}}", "search.space.models.0.max_depth", "must be below"),
        ("{space: {models.0.delta: {log: [0, 3]}}}", "search.space.models.0.delta", "above 0"),
        ("{space: {models.0.delta: 3}}", "search.space.models.0.delta", "between, log and choice"),
    ],
)
def test_a_search_that_does_not_fit_its_loop_is_refused_with_the_fix(search: str, field: str, says: str) -> None:
    errors = errors_of(TREE + search)

    assert says in errors[field]


def test_features_need_a_first_model_that_is_trained_here() -> None:
    errors = errors_of(BINARY + "models: [{trainer: elsewhere}]\nsearch: {features: 2}")

    assert "trained elsewhere" in errors["search.features"]


@pytest.mark.parametrize(
    ("model", "space", "says"),
    [
        ({"preset": "hoeffding_tree"}, {"depth": [3, 10]}, "is not a parameter; it takes"),
        ({"preset": "hoeffding_tree"}, {"max_depth": [3, 100_000]}, "from 0 to 10,000"),
        ({"preset": "adaptive_forest"}, {"trees": {"choice": [5, "ten"]}}, "text"),
        ({"preset": "logistic"}, {"learning_rate": {"log": [0.01, 100.0]}}, "up to 10"),
        (BOOSTED, {"max_itr": [50, 100]}, "is no parameter that a spec may give"),
        (BOOSTED, {"max_iter": [50, 100_000]}, "a whole number from"),
        (BOOSTED, {"max_iter": [50.5, 100.5]}, "a whole number from"),
    ],
)
async def test_what_no_trial_could_be_built_with_is_refused(
    checks: ChildProcessSpecChecks, model: dict[str, Any], space: dict[str, Any], says: str
) -> None:
    pytest.importorskip("sklearn")
    spaces = {f"models.0.{name}": tried for name, tried in space.items()}

    [wrong] = await checks.check(market_spec(models=[model], search={"space": spaces}))

    assert wrong.field == f"search.space.{next(iter(spaces))}"
    assert says in wrong.error


async def test_a_search_of_models_that_learn_and_of_batch_lines_is_taken(checks: ChildProcessSpecChecks) -> None:
    pytest.importorskip("sklearn")
    space = {
        "models.0.learning_rate": {"log": [0.001, 1.0]},
        "models.1.max_depth": [1, 20],
        "models.2.learning_rate": {"log": [0.01, 0.3]},
        "models.2.max_iter": [20, 200],
    }
    models = [{"preset": "logistic", "learning_rate": 0.1}, {"preset": "hoeffding_tree"}, BOOSTED]

    assert await checks.check(market_spec(models=models, search={"space": space})) == []


async def test_values_that_would_make_learning_too_slow_are_refused(checks: ChildProcessSpecChecks) -> None:
    models = [{"preset": "adaptive_forest", "trees": 1}]
    features = [{"fields": "all"}, *[{"name": f"x{i}", "expr": f"price * {i}"} for i in range(300)]]

    [wrong] = await checks.check(
        market_spec(models=models, features=features, search={"space": {"models.0.trees": [1, 100]}})
    )

    assert wrong.field in ("search.space", "models")
    assert "with the largest values" in wrong.error
