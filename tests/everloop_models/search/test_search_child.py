"""A search in its process: trials in order, the same from the same seed, and an end that names the best."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.everloop_models.search.searching import ratio_stream, search_task, searched, write_rows

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
    write_rows(tmp_path, ratio_stream(800))

    alone = await searched(tmp_path, search_task(model, space=space, trials=12, features=2))
    together = await searched(tmp_path, search_task(model, space=space, trials=12, features=2, workers=4))
    otherwise = await searched(tmp_path, search_task(model, space=space, trials=12, seed=8))

    assert together.without_time == alone.without_time
    assert [trial.trial for trial in alone.trials] == list(range(14))
    assert otherwise.without_time[1:4] != alone.without_time[1:4]
    assert otherwise.without_time[0] == alone.without_time[0]
    assert alone.finished.model_dump(exclude={"seconds"}) == together.finished.model_dump(exclude={"seconds"})
