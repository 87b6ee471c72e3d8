"""The process of a search: `python -m everloop_models.search.child FOLDER PARENT`.

It reads `request.json` and `rows.ndjson` in the folder, and writes lines of JSON as `protocol` has them. Its own output
is no other library's: what they print goes where errors go.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from everloop_models.batch.allowed import AllowedEstimators
from everloop_models.errors import ModelBroken, WorkersUnfit
from everloop_models.search.protocol import TASK, Answer, SearchTask
from everloop_models.search.task import Pool
from everloop_schemas.search import SearchFinishedData
from everloop_shared.errors import Unavailable
from everloop_shared.limited_child import end_with_the_parent

NICENESS = 10
EVALUATION = "everloop_models.search.evaluation"
BATCH, RIVER = "everloop_models.search.cross_validation", "everloop_models.formats.river.format"


def main(folder: Path, parent: int) -> None:
    """Search as the request says."""
    end_with_the_parent(parent)
    task = SearchTask.decode((folder / TASK).read_bytes())
    os.nice(NICENESS)
    with _only_output() as output:
        asyncio.run(_search(task, folder, output))
    if task.ray:
        os._exit(0)  # Ray's threads could hold it up, where the cluster is away


def _only_output() -> BinaryIO:
    """The output of this process, under another number: what is printed from now on goes to the errors."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return output


async def _search(task: SearchTask, folder: Path, output: BinaryIO) -> None:
    try:
        from everloop_models.search.data import prepare
        from everloop_models.search.run import SearchRun

        spec, is_batch = task.spec, task.request.model.kind == "batch"
        if is_batch and (refusal := AllowedEstimators().refusal(task.request.model.estimator or "")):
            raise ModelBroken(refusal)
        prepare(folder, is_batch, spec.label.classes, spec.task == "regression")
        async with _pool(task, folder, is_batch) as pool:
            run = SearchRun(task, folder, pool, lambda trial: _write(output, Answer(trial=trial)))
            finished = await run.run()
    except ImportError as e:
        fix = "install what searches need with: pip install 'everloop[search,boosting]'"
        finished = _failed(task, f"{e}: {fix}")
    except (ModelBroken, WorkersUnfit) as e:
        finished = _failed(task, e.detail)
    except Unavailable as e:
        return _write(output, Answer(unavailable=e.detail))
    return _write(output, Answer(finished=finished))


@asynccontextmanager
async def _pool(task: SearchTask, folder: Path, is_batch: bool) -> AsyncIterator[Pool]:
    library = (task.request.model.estimator or "").rpartition(".")[0]
    preload = (EVALUATION, BATCH, library) if is_batch else (EVALUATION, RIVER)
    if task.ray:
        from everloop_models.search.ray_pool import ray_pool

        async with ray_pool(task, folder, preload) as tasks:
            yield tasks
        return
    from everloop_models.search.pool import ProcessPool

    async with ProcessPool(task.workers, task.memory_bytes, preload) as pool:
        yield pool


def _failed(task: SearchTask, reason: str) -> SearchFinishedData:
    search = task.request
    return SearchFinishedData(search=search.search, state="failed", metric=search.metric, trials=0, reason=reason)


def _write(output: BinaryIO, line: Answer) -> None:
    output.write(line.encode())
    output.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
