"""Both ends of the pipe between the service and its worker process: each message is a pickle after its length."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Self

from everloop_training.settings import TrainingSettings

EXIT_WITHIN_S = 3.0
PR_SET_PDEATHSIG = 1
_LENGTH = struct.Struct("!Q")


def _pack(message: Any) -> bytes:
    body = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(body)) + body


class WorkerProcess:
    """The service's end: a running worker. When the service ends, however it does, so do the pipe and the worker."""

    command = (sys.executable, "-m", "everloop_training.worker.main")

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None, "started with pipes"
        assert process.stdout is not None, "started with pipes"
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout

    @classmethod
    async def start(cls, settings: TrainingSettings) -> Self:
        """Start a worker; it answers once it has imported its libraries."""
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
        """Send a message, in order; one to a worker that has exited is lost, and `receive` returns None."""
        with suppress(OSError, RuntimeError):
            self._stdin.write(_pack(message))

    async def drained(self) -> None:
        """Wait until the pipe has room again."""
        with suppress(OSError):
            await self._stdin.drain()

    async def receive(self) -> Any:
        """The next answer, None once the worker has exited."""
        try:
            (size,) = _LENGTH.unpack(await self._stdout.readexactly(_LENGTH.size))
            return pickle.loads(await self._stdout.readexactly(size))
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def end(self) -> None:
        """Close the pipe and wait until the worker has exited; kill it if it does not."""
        with suppress(OSError, RuntimeError):
            self._stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), EXIT_WITHIN_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class ServicePipe:
    """The worker's end, over its standard input and output; what libraries print goes to standard error."""

    def __init__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the service decides when the worker ends
        with suppress(OSError, AttributeError):  # Linux only: end with the parent, also in the middle of learning
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        self._commands = sys.stdin.buffer
        self._answers = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)

    def read(self) -> Any:
        """The next message, None once the service has ended."""
        header = self._commands.read(_LENGTH.size)
        if len(header) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack(header)
        body = self._commands.read(size)
        return pickle.loads(body) if len(body) == size else None

    def serve(self, handle: Callable[[Any], Iterable[Any]]) -> None:
        """Handle messages and write the answers until the service has ended."""
        with suppress(BrokenPipeError):
            while (message := self.read()) is not None:
                for answer in handle(message):
                    self._answers.write(_pack(answer))
                self._answers.flush()
