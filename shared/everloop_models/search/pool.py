"""The pool of a search on this machine: processes with limits on memory and time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

from everloop_models.search.evaluation import evaluate_json
from everloop_models.search.task import Evaluation, TrialTask
from everloop_shared.limited import ChildFailed, Limited, LimitExceeded

TRIES = 2
"""A trial whose process was killed is tried once more."""
LONGEST_S = 7 * 86_400.0


class ProcessPool:
    """Up to `workers` processes, each a fork of one that has imported `preload`; they end with this process."""

    def __init__(self, workers: int, memory_bytes: int, preload: Sequence[str]) -> None:
        self._processes = [
            Limited(preload=preload, memory_bytes=memory_bytes, seconds=LONGEST_S) for _ in range(workers)
        ]
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for process in self._processes:
            await self._open.enter_async_context(process)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    async def run(self, tasks: Sequence[TrialTask], seconds: float) -> list[Evaluation]:
        """The evaluations in the order of the tasks, each of which may take `seconds`."""
        found: dict[int, Evaluation] = {}
        waiting = iter(enumerate(tasks))

        async def work(process: Limited) -> None:
            for place, task in waiting:
                found[place] = await self._evaluate(process, task, seconds)

        async with asyncio.TaskGroup() as group:
            for process in self._processes:
                group.create_task(work(process))
        return [found[place] for place in range(len(tasks))]

    async def _evaluate(self, process: Limited, task: TrialTask, seconds: float) -> Evaluation:
        for _ in range(TRIES):
            try:
                async with asyncio.timeout(seconds):
                    return Evaluation.model_validate_json(await process.run(evaluate_json, task.model_dump_json()))
            except TimeoutError:
                return Evaluation.failed(
                    f"it took longer than {seconds:,.1f} s, twice what was left of the budget", seconds
                )
            except LimitExceeded as e:
                if e.limit != "died":
                    return Evaluation.failed(e.detail)
            except ChildFailed as e:
                return Evaluation.failed(str(e).strip().rpartition("\n")[2])
        return Evaluation.failed(f"its process was killed, {TRIES} times")
