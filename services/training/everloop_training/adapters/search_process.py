"""Runs a search in a process of its own, with limits on time and memory, which ends with this one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from everloop_models.batch.child import how_it_ended
from everloop_models.compute.environment import DRIVER_S, training_environment
from everloop_models.search.protocol import MAX_LINE_BYTES, TASK, Answer, SearchTask
from everloop_schemas.loop import LoopSpec
from everloop_schemas.search import SearchFinishedData, SearchRequestedData, TrialFinishedData
from everloop_shared.errors import Unavailable
from everloop_training.adapters.batch_process import end_process

CHILD = ("-m", "everloop_models.search.child")
GRACE_S = 60.0
"""The process ends a search at its budget; it is ended after twice that, and so many seconds for its start."""
LINES_BESIDE_TRIALS = 110
"""Trials of features, and the end of the search."""
OnTrial = Callable[[TrialFinishedData], Awaitable[None]]


class SearchFailed(Exception):
    """A search has no result; the text is the reason."""


class RunSearch(Protocol):
    """Searches on the rows in a folder, and hands on each trial that ends.

    Raises SearchFailed, and Unavailable where what it runs on is away. A caller that is cancelled ends the search.
    """

    async def __call__(
        self, folder: Path, request: SearchRequestedData, spec: LoopSpec, on_trial: OnTrial
    ) -> SearchFinishedData: ...


class SearchProcess:
    """Starts a process for each search. Each of `workers` trials may use `memory_bytes` beside its libraries.

    With `ray`, the address of a cluster, the trials run there.
    """

    def __init__(
        self,
        seconds: float,
        workers: int,
        memory_bytes: int,
        ray: str = "",
        child: tuple[str, ...] = CHILD,
        grace_s: float = GRACE_S,
    ) -> None:
        self._seconds, self._workers, self._memory_bytes, self._ray = seconds, workers, memory_bytes, ray
        self._child, self._grace_s = child, grace_s

    async def __call__(
        self, folder: Path, request: SearchRequestedData, spec: LoopSpec, on_trial: OnTrial
    ) -> SearchFinishedData:
        """Search on the rows that were written to the folder."""
        task = SearchTask(
            request=request,
            spec=spec,
            budget_s=min(request.budget_s, self._seconds),
            workers=self._workers,
            memory_bytes=self._memory_bytes,
            ray=self._ray,
        )
        await asyncio.to_thread((folder / TASK).write_bytes, task.encode())
        process = await self._start(folder)
        seconds = 2 * task.budget_s + self._grace_s + (DRIVER_S if self._ray else 0)
        try:
            async with asyncio.timeout(seconds):
                finished = await _answers(process, request, on_trial)
        except TimeoutError:
            fix = "take a smaller window, fewer trials or a simpler model"
            raise SearchFailed(f"the search did not end within {seconds:g} s: {fix}") from None
        finally:
            await end_process(process)
        return finished

    async def _start(self, folder: Path) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *self._child, str(folder.absolute()), str(os.getpid())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env=training_environment(drives_ray=bool(self._ray)),
            limit=MAX_LINE_BYTES,
        )


async def _answers(
    process: asyncio.subprocess.Process, request: SearchRequestedData, on_trial: OnTrial
) -> SearchFinishedData:
    """Hand on the trials, until the end of the search."""
    assert process.stdout is not None, "started with a pipe"
    for _ in range(request.trials + LINES_BESIDE_TRIALS):
        try:
            line = await process.stdout.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            how = how_it_ended(await process.wait())
            raise SearchFailed(f"the process of the search {how}; the log of the service has more") from None
        except asyncio.LimitOverrunError as e:
            raise SearchFailed("the process of the search has answered with a line that is too long") from e
        try:
            answer = Answer.decode(line)
        except ValueError as e:
            raise SearchFailed(f"the process of the search has answered {line[:100]!r}, which is no answer") from e
        if answer.unavailable is not None:
            raise Unavailable(answer.unavailable[:500])
        if answer.finished is not None:
            return answer.finished
        if answer.trial is not None:
            await on_trial(answer.trial)
    raise SearchFailed("the process of the search has answered with more trials than it was asked for")
