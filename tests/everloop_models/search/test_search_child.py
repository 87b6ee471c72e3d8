"""A search in its process: trials in order, the same from the same seed, and an end that names the best."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest
from tests.everloop_models.search.searching import (
    ELECTRICITY,
    electricity,
    ratio_stream,
    search_task,
    searched,
    started,
    write_rows,
)

from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search_spec import ParameterRange

pytestmark = [pytest.mark.process, pytest.mark.frameworks, pytest.mark.timeout(120)]
TREE = ModelSpec(estimator="sklearn.tree.DecisionTreeClassifier")
DEPTHS = {"max_depth": ParameterRange(between=(1, 12)), "min_samples_leaf": ParameterRange(log=(1, 100))}
HOEFFDING = ModelSpec(preset="hoeffding_tree")
GRACE = {"grace_period": ParameterRange(between=(10, 400)), "max_depth": ParameterRange(between=(1, 8))}


@pytest.mark.parametrize(("model", "space"), [(TREE, DEPTHS), (HOEFFDING, GRACE)], ids=["batch", "online"])
async def test_the_same_seed_gives_the_same_trials_on_one_process_and_on_four(
    tmp_path: Path, model: ModelSpec, space: dict[str, ParameterRange]
) -> None:
    write_rows(tmp_path, ratio_stream(300))

    alone = await searched(tmp_path, search_task(model, space=space, trials=12, features=2))
    together = await searched(tmp_path, search_task(model, space=space, trials=12, features=2, workers=4))

    assert together.without_time == alone.without_time
    assert [trial.trial for trial in alone.trials] == list(range(14))
    assert alone.finished.model_dump(exclude={"seconds"}) == together.finished.model_dump(exclude={"seconds"})


async def test_a_bad_default_is_improved_on_a_real_stream(tmp_path: Path) -> None:
    write_rows(tmp_path, electricity(2_000), entities=1)
    slow = ModelSpec(preset="logistic", learning_rate=0.0001)
    space = {"learning_rate": ParameterRange(log=(1e-4, 1.0))}

    found = await searched(tmp_path, search_task(slow, ELECTRICITY, workers=2, trials=8, space=space))

    assert found.finished.state == "improved"
    assert found.finished.score is not None
    assert found.finished.base_score is not None
    assert found.finished.score > found.finished.base_score + 0.1
    assert found.finished.model is not None
    assert float(found.finished.model.parameters["learning_rate"] or 0) > 0.001


async def test_overfitting_is_shown_and_a_shallower_tree_found_on_a_real_stream(tmp_path: Path) -> None:
    write_rows(tmp_path, electricity(2_000), entities=1)

    found = await searched(tmp_path, search_task(TREE, ELECTRICITY, trials=8, space=DEPTHS))

    best, base = found.trials[found.finished.best or 0], found.trials[0]
    assert found.finished.state == "improved"
    assert base.train_score == 1.0
    assert base.gap is not None
    assert best.gap is not None
    assert base.gap > best.gap + 0.1


@pytest.mark.parametrize("model", [TREE, HOEFFDING], ids=["batch", "online"])
async def test_a_search_over_labels_that_are_all_alike_ends_with_the_reason(tmp_path: Path, model: ModelSpec) -> None:
    write_rows(tmp_path, [(features, True) for features, _ in ratio_stream(200)])

    found = await searched(tmp_path, search_task(model, space={"max_depth": ParameterRange(between=(1, 5))}))

    assert (found.trials, found.finished.state) == ([], "failed")
    assert found.finished.reason == "all 200 rows have the label True: nothing tells models apart"


async def test_what_a_search_runs_in_ends_with_its_process_and_that_with_the_service(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(500))
    process = await started(tmp_path, search_task(HOEFFDING, workers=2, trials=1000, space=GRACE))
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readline(), 60)
    running = psutil.Process(process.pid).children(recursive=True)

    process.kill()
    await process.wait()

    assert len(running) == 3, "one that has imported everything, and two that it forked"
    _, alive = psutil.wait_procs(running, timeout=10)
    assert not alive


async def test_a_process_that_is_not_the_services_child_does_nothing(tmp_path: Path) -> None:
    write_rows(tmp_path, ratio_stream(100))

    process = await started(tmp_path, search_task(HOEFFDING, space=GRACE), parent=1)

    assert await process.stdout.read() == b"" if process.stdout else False
    assert await process.wait() == 1
