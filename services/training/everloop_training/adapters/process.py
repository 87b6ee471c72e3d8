"""The worker process as an object: start it, send, receive, end it."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from contextlib import suppress
from typing import Any, Self

from everloop_training.messages import HEADER, frame
from everloop_training.settings import TrainingSettings

LEAVE_S = 3.0


class WorkerProcess:
    """A running worker. When this process goes, however it goes, its pipe ends and so does the worker."""

    command = (sys.executable, "-m", "everloop_training.worker")

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None, "started with pipes"
        assert process.stdout is not None, "started with pipes"
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout

    @classmethod
    async def start(cls, settings: TrainingSettings) -> Self:
        """Start one; it answers once it has imported its libraries."""
        # A fixed hash seed makes artifacts of the same line at the same offset the same bytes.
        env = {**os.environ, "PYTHONHASHSEED": "0"}
        process = await asyncio.create_subprocess_exec(
            *cls.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=env,
        )
        worker = cls(process)
        worker.send(settings.model_dump_json())
        return worker

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Any) -> None:
        """Send a message, in order; to a worker that has gone it is lost, as `receive` will tell."""
        with suppress(OSError, RuntimeError):
            self._stdin.write(frame(message))

    async def drained(self) -> None:
        """Wait until the pipe has room again."""
        with suppress(OSError):
            await self._stdin.drain()

    async def receive(self) -> Any:
        """The next answer, None once the worker has gone."""
        try:
            (size,) = HEADER.unpack(await self._stdout.readexactly(HEADER.size))
            return pickle.loads(await self._stdout.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def end(self) -> None:
        """Close its pipe and wait until it has gone; kill it if it does not go."""
        with suppress(OSError, RuntimeError):
            self._stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), LEAVE_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
