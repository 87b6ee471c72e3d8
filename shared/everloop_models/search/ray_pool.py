"""The pool of a search on a Ray cluster: each trial is a task, in a process limited as on this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from everloop_models.batch.allowed import RECORDED
from everloop_models.compute.environment import SAME_EACH_TIME
from everloop_models.compute.ray_driver import FailedCall, RayDriver, connected
from everloop_models.search.pool import ProcessPool
from everloop_models.search.protocol import TASK, SearchTask
from everloop_models.search.task import Evaluation, TrialTask

EVALUATE = "everloop_models.search.ray_pool:evaluate_on_worker"
ONLINE = ("river", "scipy", "msgspec")
"""Distributions that decide what an online model predicts."""


class RayPool:
    """Runs trials on the workers of a cluster, as many at a time as they have CPUs."""

    def __init__(self, driver: RayDriver, memory_bytes: int, preload: Sequence[str]) -> None:
        self._driver, self._memory_bytes, self._preload = driver, memory_bytes, tuple(preload)

    async def run(self, tasks: Sequence[TrialTask], seconds: float) -> list[Evaluation]:
        """The evaluations in the order of the tasks, each of which may take `seconds`.

        Raises WorkersUnfit, and Unavailable where the cluster is away.
        """
        calls = [(task.model_dump_json(), seconds, self._memory_bytes, self._preload) for task in tasks]
        found = await asyncio.to_thread(self._driver.call, EVALUATE, calls, seconds)
        return [
            Evaluation.failed(one.reason) if isinstance(one, FailedCall) else Evaluation.model_validate_json(one)
            for one in found
        ]


@asynccontextmanager
async def ray_pool(task: SearchTask, folder: Path, preload: Sequence[str]) -> AsyncIterator[RayPool]:
    """The pool of a search whose files are in the folder; they are stored in the cluster once."""
    library = (task.request.model.estimator or "").partition(".")[0]
    with connected(task.ray, RECORDED.get(library, ONLINE)) as driver:
        driver.put(sorted(file for file in folder.iterdir() if file.name != TASK))
        yield RayPool(driver, task.memory_bytes, preload)


def evaluate_on_worker(folder: Path, task: str, seconds: float, memory_bytes: int, preload: Sequence[str]) -> str:
    """The evaluation of one task as JSON, on the worker, which has the search's files in this folder."""
    os.environ.update(SAME_EACH_TIME)
    here = TrialTask.model_validate_json(task).model_copy(update={"folder": folder})
    return asyncio.run(_evaluate(here, seconds, memory_bytes, preload)).model_dump_json()


async def _evaluate(task: TrialTask, seconds: float, memory_bytes: int, preload: Sequence[str]) -> Evaluation:
    async with ProcessPool(1, memory_bytes, preload) as pool:
        [found] = await pool.run([task], seconds)
    return found
