"""The pool of a search: processes with limits, of which one that is killed costs its trial a second try."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from tests.everloop_models.search.searching import RATIO_SPEC, ratio_stream, write_rows

from everloop_models.search.data import prepare
from everloop_models.search.evaluation import evaluate
from everloop_models.search.pool import ProcessPool
from everloop_models.search.task import TrialTask
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.search import Parameters

pytestmark = [pytest.mark.process, pytest.mark.frameworks, pytest.mark.timeout(120)]
PRELOAD = ("everloop_models.search.evaluation", "everloop_models.search.cross_validation", "sklearn.ensemble")
FOREST = ModelSpec(estimator="sklearn.ensemble.RandomForestClassifier", n_estimators=3)
LARGE: Parameters = {"n_estimators": 2000, "max_depth": 30}
"""Some hundred megabytes, and many seconds."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(write_rows(tmp_path, ratio_stream(2_000)), True, None, is_regression=False)
    return tmp_path


def task(folder: Path, parameters: Parameters) -> TrialTask:
    return TrialTask(folder=folder, spec=RATIO_SPEC, model=FOREST, index=0, metric="accuracy", parameters=parameters)


@asynccontextmanager
async def pool(workers: int = 1, memory_bytes: int = 1_000_000_000) -> AsyncIterator[ProcessPool]:
    async with ProcessPool(workers, memory_bytes, PRELOAD) as opened:
        yield opened


def trial_processes() -> list[psutil.Process]:
    """The processes of this test's pools that run trials: forks of the one that has imported the libraries."""
    return [fork for child in psutil.Process().children() for fork in child.children()]


async def busy_process(known: Sequence[int] = ()) -> psutil.Process:
    """A process that has computed for a moment."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in trial_processes():
            if process.pid not in known and process.cpu_times().user > 0.2:
                return process
        await asyncio.sleep(0.02)
    raise AssertionError("no trial was running in time")


async def test_results_are_in_the_order_of_the_tasks_and_those_of_this_process(folder: Path) -> None:
    tasks = [task(folder, {"max_depth": depth}) for depth in (9, 1, 7, 2, 5)]

    async with pool(workers=2) as opened:
        found = await opened.run(tasks, 60)

    expected = [evaluate(each) for each in tasks]
    assert [each.folds for each in found] == [each.folds for each in expected]
    assert len({each.score for each in found}) > 2


async def test_a_trial_that_needs_more_memory_than_the_limit_fails_and_the_others_do_not(tmp_path: Path) -> None:
    prepare(write_rows(tmp_path, ratio_stream(12_000)), True, None, is_regression=False)
    network = ModelSpec(estimator="sklearn.neural_network.MLPClassifier", max_iter=1)
    wide, narrow = (
        task(tmp_path, {"hidden_layer_sizes": neurons}).model_copy(update={"model": network}) for neurons in (10_000, 5)
    )

    async with pool(memory_bytes=100_000_000) as opened:
        large, small = await opened.run([wide, narrow], 60)

    assert (large.state, large.reason) == ("failed", "it needed more than 100 MB of memory")
    assert small.state == "complete"


async def test_a_trial_that_takes_longer_than_it_may_is_ended_and_fails(folder: Path) -> None:
    async with pool() as opened:
        [large] = await opened.run([task(folder, LARGE)], 1.0)
        [small] = await opened.run([task(folder, {})], 60)

    assert large.state == "failed"
    assert large.reason == "it took longer than 1.0 s, twice what was left of the budget"
    assert small.state == "complete"


async def test_a_trial_whose_process_is_killed_is_tried_once_more(folder: Path) -> None:
    expected = evaluate(task(folder, {"n_estimators": 60}))
    async with pool() as opened:
        running = asyncio.ensure_future(opened.run([task(folder, {"n_estimators": 60}), task(folder, {})], 60))
        (await busy_process()).kill()
        found = await running

    assert [each.state for each in found] == ["complete", "complete"]
    assert found[0].folds == expected.folds


async def test_a_trial_whose_process_is_killed_twice_fails_and_the_search_goes_on(folder: Path) -> None:
    async with pool() as opened:
        running = asyncio.ensure_future(opened.run([task(folder, LARGE), task(folder, {})], 60))
        first = await busy_process()
        first.kill()
        (await busy_process([first.pid])).kill()
        large, small = await running

    assert (large.state, large.reason) == ("failed", "its process was killed, 2 times")
    assert small.state == "complete"


async def test_a_pool_that_is_left_ends_its_processes(folder: Path) -> None:
    async with pool(workers=2) as opened:
        running = asyncio.ensure_future(opened.run([task(folder, LARGE)] * 2, 60))
        process = await busy_process()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    process.wait(10)
    assert not process.is_running()
