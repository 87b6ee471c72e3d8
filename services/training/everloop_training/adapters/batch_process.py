"""Trains a batch model in a process of its own, with limits on time and memory, which ends with this one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import BaseModel

from everloop_models.batch.child import ANSWER, MODEL, REQUEST
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_shared.limited import child_environment
from everloop_shared.service import wait_for_all

SAME_EACH_TIME = {"MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


class TrainingFailed(Exception):
    """A model could not be trained; the text is the reason."""


class BatchModel(NamedTuple):
    """A trained model: its ONNX file and features, the metrics of its training, and how long that took."""

    data: bytes
    signature: tuple[str, ...]
    metrics: dict[str, float]
    seconds: float


class TrainBatch(Protocol):
    """Trains a model on the rows in a folder; raises TrainingFailed. A caller that is cancelled ends the training."""

    async def __call__(self, folder: Path, model: ModelSpec, spec: LoopSpec) -> BatchModel: ...


class _Answer(BaseModel):
    reason: str | None = None
    signature: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    seconds: float = 0.0


class BatchProcess:
    """Starts a process for each training. `memory_bytes` is what it may use beside its libraries."""

    def __init__(self, seconds: float, memory_bytes: int, model_bytes: int) -> None:
        self._seconds, self._memory_bytes, self._model_bytes = seconds, memory_bytes, model_bytes

    async def __call__(self, folder: Path, model: ModelSpec, spec: LoopSpec) -> BatchModel:
        """Train on the rows that were written to the folder."""
        request = {"model": model.model_dump(mode="json"), "spec": spec.model_dump(mode="json", by_alias=True)}
        (folder / REQUEST).write_text(json.dumps(request))
        process = await self._start(folder)
        try:
            code = await asyncio.wait_for(process.wait(), self._seconds)
        except TimeoutError:
            fix = "take a smaller window or model, or raise EVERLOOP_TRAINING_BATCH_SECONDS"
            raise TrainingFailed(f"training took longer than {self._seconds:g} s and was ended: {fix}") from None
        finally:
            await _end(process)
        return await asyncio.to_thread(_read, folder, code)

    async def _start(self, folder: Path) -> asyncio.subprocess.Process:
        limits = [str(number) for number in (os.getpid(), self._memory_bytes, self._model_bytes)]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "everloop_models.batch.child", str(folder.absolute()), *limits),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env={**child_environment(), **SAME_EACH_TIME},
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await wait_for_all([asyncio.ensure_future(process.wait())])


def _read(folder: Path, code: int) -> BatchModel:
    try:
        answer = _Answer.model_validate_json((folder / ANSWER).read_bytes())
    except (OSError, ValueError):
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        raise TrainingFailed(f"the process that trained it {how}; the log of the service has more") from None
    if answer.reason is not None:
        raise TrainingFailed(answer.reason)
    return BatchModel((folder / MODEL).read_bytes(), answer.signature, answer.metrics, answer.seconds)
