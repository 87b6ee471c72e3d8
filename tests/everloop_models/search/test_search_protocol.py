"""What the service and the process of a search say to each other comes out as it went in."""

from __future__ import annotations

from tests.training.training_harness import spec

from everloop_models.search.protocol import Answer, SearchTask
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search import SearchFinishedData, SearchRequestedData, TrialFinishedData
from everloop_schemas.search_spec import ParameterRange
from everloop_schemas.training import DataSet


def test_a_task_is_read_as_it_was_written() -> None:
    request = SearchRequestedData(
        search="s-1",
        key="search/0/99",
        reason="every 100 outcomes",
        index=0,
        model=ModelSpec(preset="hoeffding_tree", max_depth=3),
        data_set=DataSet(loop="market", start=0, end=99, revision=1),
        metric="accuracy",
        trials=20,
        budget_s=60.0,
        seed=7,
        space={"max_depth": ParameterRange(between=(1, 10)), "delta": ParameterRange(log=(1e-7, 0.1))},
        features=3,
    )
    task = SearchTask(request=request, spec=spec(), budget_s=30.0, workers=2, memory_bytes=10**9)

    assert SearchTask.decode(task.encode()) == task


def test_an_answer_is_one_line() -> None:
    trial = TrialFinishedData(search="s-1", trial=3, state="complete", parameters={"max_depth": 4}, seconds=0.5)
    finished = SearchFinishedData(search="s-1", state="unchanged", metric="accuracy", trials=20, base_score=0.8)

    for answer in (Answer(trial=trial), Answer(finished=finished), Answer(unavailable="no\ncluster")):
        line = answer.encode()
        assert line.count(b"\n") == 1
        assert Answer.decode(line) == answer
