"""Trains a batch model in a process of its own, with limits on time and memory, which ends with this one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import BaseModel

from everloop_models.batch.child import ANSWER, MODEL, REQUEST, how_it_ended, too_slow
from everloop_models.compute.environment import DRIVER_S, training_environment
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_shared.errors import Unavailable
from everloop_shared.tasks import wait_for_all


class TrainingFailed(Exception):
    """A model could not be trained; the text is the reason."""


class BatchModel(NamedTuple):
    """A trained model: its ONNX file and features, the metrics of its training, and how long that took."""

    data: bytes
    signature: tuple[str, ...]
    metrics: dict[str, float]
    seconds: float


class TrainBatch(Protocol):
    """Trains a model on the rows in a folder. A caller that is cancelled ends the training.

    Raises TrainingFailed, and Unavailable where what it runs on is away.
    """

    async def __call__(self, folder: Path, model: ModelSpec, spec: LoopSpec) -> BatchModel: ...


class _Answer(BaseModel):
    reason: str | None = None
    unavailable: str | None = None
    signature: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    seconds: float = 0.0


class BatchProcess:
    """Starts a process for each training. `memory_bytes` is what it may use beside its libraries.

    With the address of a Ray cluster the process has the training done there, within the same limits.
    """

    def __init__(
        self, seconds: float, memory_bytes: int, model_bytes: int, ray: str = "", python: str = sys.executable
    ) -> None:
        self._seconds, self._memory_bytes, self._model_bytes = seconds, memory_bytes, model_bytes
        self._ray, self._python = ray, python

    async def __call__(self, folder: Path, model: ModelSpec, spec: LoopSpec) -> BatchModel:
        """Train on the rows that were written to the folder."""
        request = {"model": model.model_dump(mode="json"), "spec": spec.model_dump(mode="json", by_alias=True)}
        (folder / REQUEST).write_text(json.dumps(request))
        process = await self._start(folder)
        seconds = self._seconds + DRIVER_S if self._ray else self._seconds
        try:
            code = await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            raise TrainingFailed(too_slow(seconds)) from None
        finally:
            await end_process(process)
        return await asyncio.to_thread(_read, folder, code)

    async def _start(self, folder: Path) -> asyncio.subprocess.Process:
        arguments = [folder.absolute(), os.getpid(), self._memory_bytes, self._model_bytes]
        child, more = ("ray_child", [self._seconds, self._ray]) if self._ray else ("child", [])
        return await asyncio.create_subprocess_exec(
            *(self._python, "-m", f"everloop_models.batch.{child}", *map(str, [*arguments, *more])),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env=training_environment(drives_ray=bool(self._ray)),
        )


async def end_process(process: asyncio.subprocess.Process) -> None:
    """Kill a process and wait until it has ended. Idempotent."""
    with suppress(ProcessLookupError):
        process.kill()
    await wait_for_all([asyncio.ensure_future(process.wait())])


def _read(folder: Path, code: int) -> BatchModel:
    try:
        answer = _Answer.model_validate_json((folder / ANSWER).read_bytes())
    except (OSError, ValueError):
        how = how_it_ended(code)
        raise TrainingFailed(f"the process that trained it {how}; the log of the service has more") from None
    if answer.unavailable is not None:
        raise Unavailable(answer.unavailable)
    if answer.reason is not None:
        raise TrainingFailed(answer.reason)
    return BatchModel((folder / MODEL).read_bytes(), answer.signature, answer.metrics, answer.seconds)
