"""Runs functions on untrusted input in a child process with limits on memory and time."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Literal, NoReturn, Self

from everloop_shared.errors import FieldError, InputRejected, Overloaded, ServiceError
from everloop_shared.limited_child import HEADER

START_S = 60.0
ANSWER_BYTES = 16_000_000
"""Of an answer in JSON; bytes at the end of a result are limited by the instance."""
LARGE_BYTES = 100_000
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "EVERLOOP_DATA")
"""The variables of the environment that a child gets: no passwords, no addresses."""


class LimitExceeded(InputRejected):
    """A call took too long, needed too much memory, or ended its process; `limit` is which of them."""

    title = "Limit exceeded"

    def __init__(self, limit: Literal["time", "memory", "died"], detail: str) -> None:
        super().__init__(detail)
        self.limit = limit


class ChildFailed(Exception):
    """The function raised no ServiceError (the text is the traceback of its error), or no child could be started."""


class Limited:
    """A child process for one call at a time; up to `waiting` further calls queue, more are refused (Overloaded).

    `memory_bytes` is address space beside what the child has after its start, arguments included; `seconds` is wall
    clock per call, `cpu_seconds` (0: no limit) what it may compute meanwhile, however busy the machine is; with a
    `niceness` other processes come first, as `nice` says. A child that
    exceeds a limit, ends, or whose caller is cancelled is killed, and the next call gets a new one: a fork, in
    milliseconds, of a process per set of `preload` modules that all instances share. They all end with this process,
    however it ends. Linux enforces all limits; elsewhere address space is not limited. A result may end in bytes,
    `result_bytes` of them at most.
    """

    def __init__(
        self,
        *,
        preload: Sequence[str],
        memory_bytes: int,
        seconds: float,
        cpu_seconds: float = 0.0,
        niceness: int = 0,
        waiting: int = 100,
        result_bytes: int = 0,
    ) -> None:
        self._preload, self._limits = tuple(preload), f"{memory_bytes} {cpu_seconds} {niceness}"
        self._memory, self._seconds, self._cpu, self._most = memory_bytes, seconds, cpu_seconds, waiting + 1
        self._result_bytes = result_bytes
        self._turn, self._inside = asyncio.Lock(), 0
        self._child: _Child | None = None

    async def __aenter__(self) -> Self:
        _Forker.of(self._preload)  # it imports before the first call
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._child:
            self._child.end()

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of a module's function: JSON types, or a tuple of them with bytes at its end.

        `args` are pickled. A ServiceError of the function is raised here. Raises LimitExceeded, Overloaded, and
        ChildFailed for any other exception.
        """
        if self._inside >= self._most:
            raise Overloaded(f"{self._inside} calls are already running or waiting")
        self._inside += 1
        try:
            async with self._turn:
                return _result(await self._ask(_request(function, args)))
        finally:
            self._inside -= 1

    async def _ask(self, request: Sequence[bytes | memoryview]) -> dict[str, Any]:
        child, self._child = self._child, None  # set again after its answer, so that no unfinished child is reused
        if child is not None and child.gone:  # it may have been killed while it was idle
            child.end()
            child = None
        child = child or await _Child.start(self._preload, self._limits)
        answered = False
        try:
            answer = await asyncio.wait_for(child.ask(request, self._result_bytes), self._seconds)
            answered = "limit" not in answer
        except TimeoutError:
            raise LimitExceeded("time", f"it took longer than {self._seconds:g} s") from None
        except (asyncio.IncompleteReadError, OSError):
            raise LimitExceeded("died", "its process ended") from None
        finally:
            if not answered:
                child.end()
        if answer.get("limit") == "cpu":
            raise LimitExceeded("time", f"it took longer than {self._cpu:g} s of computing")
        if not answered:
            raise LimitExceeded("memory", f"it needed more than {self._memory / 1e6:,.0f} MB of memory")
        self._child = child
        return answer


class _Child:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._process: int | None = None

    @classmethod
    async def start(cls, preload: tuple[str, ...], limits: str) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            _Forker.of(preload).fork(theirs, limits)
        child = cls(*await asyncio.open_unix_connection(sock=ours))
        try:
            child._hold((await asyncio.wait_for(child._receive(), START_S))["pid"])
        except (TimeoutError, asyncio.IncompleteReadError, OSError) as e:
            child.end()
            raise ChildFailed("no process could be started; the log has the reason") from e
        except BaseException:
            child.end()
            raise
        return child

    @property
    def gone(self) -> bool:
        return self._reader.at_eof()

    async def ask(self, request: Sequence[bytes | memoryview], result_bytes: int) -> dict[str, Any]:
        for part in request:
            self._writer.write(part)
            await self._writer.drain()
        answer = await self._receive()
        if (size := answer.get("bytes")) is not None:
            if not isinstance(size, int) or not 0 <= size <= result_bytes:
                raise ConnectionError("the bytes of the result are too many")
            answer["result"] = (*answer["result"], await self._reader.readexactly(size))
        return answer

    async def _receive(self) -> dict[str, Any]:
        (size,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
        if size > ANSWER_BYTES:
            raise ConnectionError("the answer is too large")
        answer = json.loads(await self._reader.readexactly(size))
        if not isinstance(answer, dict):
            raise ConnectionError("the answer is not an object")
        return answer

    def _hold(self, pid: int) -> None:
        """Open a handle of this process, which cannot refer to another process with the same id later."""
        with suppress(OSError, AttributeError):  # Linux only; elsewhere the end of its socket ends it
            self._process = os.pidfd_open(pid)

    def end(self) -> None:
        self._writer.close()
        if self._process is not None:
            with suppress(OSError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            os.close(self._process)
            self._process = None


class _Forker:
    """The process that has imported what children need, and forks them; one per set of modules."""

    running: dict[tuple[str, ...], _Forker] = {}  # noqa: RUF012

    def __init__(self, preload: tuple[str, ...]) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            # Started here and not in a thread: it ends with the thread that starts it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "everloop_shared.limited_child", str(theirs.fileno()), *preload],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=child_environment(),
            )

    @classmethod
    def of(cls, preload: tuple[str, ...]) -> _Forker:
        forker = cls.running.get(preload)
        if forker is None or forker._process.poll() is not None:
            if forker is not None:
                forker.end()  # its process was killed: what leads to it is closed
            forker = cls.running[preload] = cls(preload)
        return forker

    def fork(self, link: socket.socket, limits: str) -> None:
        socket.send_fds(self._control, [limits.encode()], [link.fileno()])

    def end(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()


@atexit.register
def _end_forkers() -> None:
    for forker in _Forker.running.values():
        forker.end()


def _request(function: Callable[..., Any], args: tuple[Any, ...]) -> list[bytes | memoryview]:
    """The parts of a request; large bytes are parts as they are, because a copy would hold up all other work here."""
    large: list[pickle.PickleBuffer] = []
    shown = [pickle.PickleBuffer(arg) if isinstance(arg, bytes) and len(arg) >= LARGE_BYTES else arg for arg in args]
    pickled = pickle.dumps(shown, protocol=5, buffer_callback=large.append)
    parts = [buffer.raw() for buffer in large]
    head = pickle.dumps((function.__module__, function.__qualname__, pickled, [part.nbytes for part in parts]))
    return [HEADER.pack(len(head)) + head, *parts]


def child_environment() -> dict[str, str]:
    """The environment of a child: few variables, and libraries use one thread."""
    kept = {k: v for k, v in os.environ.items() if k in INHERITED or k.startswith("PYTHON")}
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # a process with threads must not fork


def _result(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        _raise(answer)
    if "result" not in answer:
        raise ChildFailed(answer.get("failed"))
    return answer["result"]


def _raise(answer: dict[str, Any]) -> NoReturn:
    detail = str(answer.get("detail"))
    for cls in _errors(ServiceError):
        if f"{cls.__module__}.{cls.__qualname__}" == answer["error"]:
            error = cls.__new__(cls)
            ServiceError.__init__(error, detail, [FieldError(str(f), str(e)) for f, e in answer.get("errors", [])])
            raise error
    raise ChildFailed(f"{answer['error']}: {detail}")


def _errors(base: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield base
    for cls in base.__subclasses__():
        yield from _errors(cls)
