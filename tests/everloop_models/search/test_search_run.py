"""A search goes on where a trial fails, ends with its budget or its space, and names what was better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.everloop_models.search.searching import RATIO_SPEC, Searched, ratio_stream, search_task, write_rows

from everloop_models.errors import ModelBroken
from everloop_models.search.data import MIN_ROWS, prepare
from everloop_models.search.evaluation import evaluate
from everloop_models.search.task import Evaluation, TrialTask
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search import TrialFinishedData
from everloop_schemas.search_spec import ParameterRange

pytestmark = pytest.mark.frameworks
HOEFFDING = ModelSpec(preset="hoeffding_tree", grace_period=50)
GRACE = {"grace_period": ParameterRange(between=(10, 200))}


class SerialPool:
    """Runs the tasks in this process, and keeps them."""

    def __init__(self) -> None:
        self.rounds: list[list[TrialTask]] = []
        self.seconds: list[float] = []

    async def run(self, tasks: Sequence[TrialTask], seconds: float) -> list[Evaluation]:
        self.rounds.append(list(tasks))
        self.seconds.append(seconds)
        return [evaluate(task) for task in tasks]


async def searched(
    folder: Path, model: ModelSpec = HOEFFDING, pool: SerialPool | None = None, **fields: Any
) -> Searched:
    from everloop_models.search.run import SearchRun

    prepare(folder, model.kind == "batch", None, is_regression=False)
    trials: list[TrialFinishedData] = []
    run = SearchRun(search_task(model, RATIO_SPEC, **fields), folder, pool or SerialPool(), trials.append)
    return Searched(trials, await run.run())


async def test_trial_0_is_the_model_as_it_is_and_a_better_one_becomes_the_models_parameters(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(400))
    bad = ModelSpec(preset="logistic", learning_rate=1e-9)

    found = await searched(tmp_path, bad, space={"learning_rate": ParameterRange(log=(1e-4, 1.0))})

    assert (found.trials[0].parameters, len(found.trials)) == ({}, 8)
    best = found.trials[found.finished.best or 0]
    assert best.score == found.finished.score == max(t.score or 0 for t in found.trials if t.state == "complete")
    assert found.finished.state == "improved"
    assert found.finished.base_score == found.trials[0].score
    assert found.finished.model == ModelSpec(preset="logistic", **best.parameters)


async def test_what_is_no_better_changes_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(400))
    good = ModelSpec(preset="logistic", learning_rate=0.05)

    found = await searched(tmp_path, good, trials=4, space={"learning_rate": ParameterRange(log=(1e-12, 1e-9))})

    assert (found.finished.state, found.finished.best, found.finished.model) == ("unchanged", 0, good)


async def test_a_trial_that_fails_has_its_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(400))
    space = {"grace_period": ParameterRange(between=(10, 200)), "delta": ParameterRange(choice=(1e-7, "much"))}

    found = await searched(tmp_path, trials=12, space=space)

    states = {trial.parameters.get("delta"): set[str]() for trial in found.trials}
    for trial in found.trials:
        states[trial.parameters.get("delta")].add(trial.state)
    assert states["much"] == {"failed"}
    assert states[1e-7] <= {"complete", "pruned"}
    assert all("models.0.delta: must not be text" in (t.reason or "") for t in found.trials if t.state == "failed")
    assert found.finished.state in ("improved", "unchanged")


async def test_a_search_in_which_all_trials_fail_has_failed_with_the_reason_of_the_first(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(400))

    found = await searched(tmp_path, ModelSpec(preset="hoeffding_tree", delta="much"), space=GRACE)

    assert (found.finished.state, found.finished.best, found.finished.model) == ("failed", None, None)
    assert found.finished.reason == found.trials[0].reason
    assert {trial.state for trial in found.trials} == {"failed"}


async def test_a_budget_that_has_ended_ends_the_search_with_what_it_has(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(400))
    pool = SerialPool()

    found = await searched(tmp_path, pool=pool, trials=1000, budget_s=1.0, space=GRACE, features=3)

    assert 4 <= len(found.trials) < 190
    assert found.finished.state in ("improved", "unchanged")
    assert found.finished.reason == "the budget of 1 s has ended"
    assert pool.seconds[0] == pytest.approx(2.0, abs=0.1), "twice what is left, for a trial"
    at_once = await searched(tmp_path, trials=1000, budget_s=1e-9, space=GRACE)
    assert len(at_once.trials) == 4


async def test_rounds_have_four_trials_and_thresholds_of_the_rounds_before(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(400))
    pool = SerialPool()

    await searched(tmp_path, pool=pool, trials=10, space=GRACE | {"max_depth": ParameterRange(between=(1, 9))})

    assert [len(tasks) for tasks in pool.rounds] == [4, 4, 2]
    assert {task.thresholds for task in pool.rounds[0]} == {()}
    assert len({task.thresholds for task in pool.rounds[1]}) == 1
    assert pool.rounds[1][0].thresholds != ()


async def test_parameters_that_were_tried_are_not_tried_again_and_a_small_space_ends_the_search(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(400))
    pool = SerialPool()

    found = await searched(tmp_path, pool=pool, trials=1000, space={"max_depth": ParameterRange(between=(1, 5))})

    tried = [task.parameters["max_depth"] for tasks in pool.rounds for task in tasks if task.parameters]
    assert sorted(int(depth or 0) for depth in tried) == [1, 2, 3, 4, 5]
    assert len(found.trials) < 100
    again = [trial for trial in found.trials if trial.reason]
    assert all((trial.reason or "").startswith("these were the parameters of trial") for trial in again)
    assert all(trial.score == found.trials[int((trial.reason or "").rpartition(" ")[2])].score for trial in again)


async def test_features_are_trials_of_their_own_and_never_change_the_model(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(1_000))

    found = await searched(tmp_path, trials=4, features=2, space=GRACE)
    alone = await searched(tmp_path, trials=40, features=2)

    assert [trial.feature is None for trial in found.trials] == [True] * 4 + [False] * 2
    assert found.finished.features[0].feature["expr"] in ("a / b", "b / a")
    assert found.finished.features[0].gain > 0.005
    assert found.finished.model == ModelSpec(
        preset="hoeffding_tree", **{"grace_period": 50, **found.trials[found.finished.best or 0].parameters}
    )
    assert [trial.feature is None for trial in alone.trials] == [True, False, False], "without a space"
    assert alone.finished.state == "unchanged"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([({"a": 1.0 * i}, True) for i in range(200)], "all 200 rows have the label True: nothing tells models apart"),
        ([({"a": 1.0 * i}, i % 2 == 0) for i in range(20)], f"the data set has 20 rows; a search needs {MIN_ROWS}"),
        ([({"a": i if i % 2 else "x"}, i % 2 == 0) for i in range(99)], "'a' is text in some rows and a number"),
    ],
)
def test_rows_that_tell_nothing_are_refused_with_the_reason(tmp_path: Path, rows: list[Any], reason: str) -> None:
    with pytest.raises(ModelBroken) as refused:
        prepare(write_rows(tmp_path, rows), True, None, is_regression=False)

    assert reason in refused.value.detail
