"""Messages between the workers of one serving over Unix sockets: pipelined, answered as they are ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Protocol, Self, cast

import msgspec

from everloop_serving.domain.peer_messages import AnyPeerMessage
from everloop_shared.errors import FieldError, ServiceError, Unavailable
from everloop_shared.workers import Worker

log = logging.getLogger(__name__)
LENGTH = struct.Struct(">I")
PEER_WAIT_S = 12.0
"""How long a request waits for a worker that is started again; that takes two or three seconds."""
RETRY_S = 0.05
REJOIN_WAIT_S = 5.0
"""A worker that was started again answers its peers once it is ready, at the latest after this."""
LEAVE_WAIT_S = 2.0
"""How long a worker that stops goes on answering peers that have not stopped yet."""


class Answers(Protocol):
    """Answers other workers; raises ServiceErrors, which they get."""

    async def answer(self, message: AnyPeerMessage) -> Sequence[bytes]: ...
    def answer_at_once(self, message: AnyPeerMessage) -> Sequence[bytes] | None:
        """The same, without waiting; None, before anything is changed, where it has to wait."""


class _Asked(msgspec.Struct, array_like=True):
    number: int
    message: AnyPeerMessage


class _Answered(msgspec.Struct, array_like=True):
    """The values, or the error: its code, detail, and field errors."""

    number: int
    values: Sequence[bytes] = ()
    error: tuple[str, str, list[FieldError]] | None = None


_encoder = msgspec.msgpack.Encoder()
_asked, _answered = msgspec.msgpack.Decoder(_Asked), msgspec.msgpack.Decoder(_Answered)


class _Frames(asyncio.Protocol):
    """A connection that carries frames: a length, then so many bytes."""

    transport: asyncio.Transport | None = None

    def __init__(self) -> None:
        self._unread = b""
        self._unsent = list[bytes]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, value: msgspec.Struct) -> None:
        """Send a frame together with the others of this turn of the event loop."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        body = _encoder.encode(value)
        self._unsent += (LENGTH.pack(len(body)), body)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"".join(unsent))

    def data_received(self, data: bytes) -> None:
        data, start = self._unread + data if self._unread else data, 0
        while start + LENGTH.size <= len(data):
            end = start + LENGTH.size + LENGTH.unpack_from(data, start)[0]
            if end > len(data):
                break
            self.receive(data[start + LENGTH.size : end])
            start = end
        self._unread = data[start:]

    def receive(self, frame: bytes) -> None:
        raise NotImplementedError


class _Link(_Frames):
    """This worker's connection to another one."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, asyncio.Future[Sequence[bytes]]] = {}
        self._numbers = count()

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def ask(self, message: AnyPeerMessage) -> Sequence[bytes]:
        """The answer; raises the peer's ServiceError, or ConnectionError where the connection is lost."""
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self.send(_Asked(number, message))
            return cast(Sequence[bytes], await answer)
        finally:
            self._waiting.pop(number, None)

    def receive(self, frame: bytes) -> None:
        answered = _answered.decode(frame)
        waiting = self._waiting.get(answered.number)
        if waiting is None or waiting.done():
            return
        if answered.error is None:
            waiting.set_result(answered.values)
        else:
            waiting.set_exception(_error_of(*answered.error))

    def connection_lost(self, exc: Exception | None) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError("the other worker ended"))


class _Server(_Frames):
    """The connection of another worker to this one."""

    def __init__(self, answers: Answers, connected: set[_Server]) -> None:
        super().__init__()
        self._answers, self._connected = answers, connected
        self._answering: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connected.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connected.discard(self)

    def receive(self, frame: bytes) -> None:
        asked = _asked.decode(frame)
        try:
            values = self._answers.answer_at_once(asked.message)
        except Exception as e:
            self.send(_failure(asked.number, e))
            return
        if values is not None:
            self.send(_Answered(asked.number, values))
            return
        task = asyncio.ensure_future(self._respond(asked))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _respond(self, asked: _Asked) -> None:
        try:
            answered = _Answered(asked.number, await self._answers.answer(asked.message))
        except Exception as e:
            answered = _failure(asked.number, e)
        self.send(answered)


def _failure(number: int, error: Exception) -> _Answered:
    if isinstance(error, ServiceError):
        return _Answered(number, error=(error.code, error.detail, error.errors))
    log.error("a request of another worker failed", exc_info=error)
    return _Answered(number, error=(ServiceError.code, repr(error), []))


class WorkerPeers:
    """The other workers, as `ports.Peers`; on entering it begins to answer them, with `answers`."""

    def __init__(self, worker: Worker, answers: Answers, not_ready: Callable[[], str | None]) -> None:
        self._worker, self._answers, self._not_ready = worker, answers, not_ready
        self.number, self.count = worker.number, worker.count
        self._links: dict[int, _Link] = {}
        self._connecting = asyncio.Lock()
        self._connected: set[_Server] = set()
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        self._starting = asyncio.ensure_future(self._start())
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop asking; go on answering for a while those who have not stopped."""
        for link in self._links.values():
            if link.transport is not None:
                link.transport.close()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        deadline = asyncio.get_running_loop().time() + LEAVE_WAIT_S
        while self._connected and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(RETRY_S)
        if self._server is not None:
            self._server.close()
        for connected in list(self._connected):
            if connected.transport is not None:
                connected.transport.close()

    async def is_reachable(self, worker: int) -> bool:
        """Whether the worker answers now."""
        return await self._link(worker) is not None

    async def ask(self, worker: int, message: AnyPeerMessage) -> Sequence[bytes]:
        """The answer of a worker. While it is started again the message waits, and is sent again where it was lost."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PEER_WAIT_S
        while loop.time() < deadline:
            if link := await self._link(worker):
                with contextlib.suppress(ConnectionError):
                    return await link.ask(message)
            await asyncio.sleep(RETRY_S)
        raise Unavailable(f"worker {worker} of serving has not answered for {PEER_WAIT_S:g} s; try again")

    async def ask_others(self, message: AnyPeerMessage) -> dict[int, Sequence[bytes]]:
        """The answers of the other workers that answer now."""
        links = {n: link for n in range(self.count) if n != self.number and (link := await self._link(n))}
        answers = await asyncio.gather(*(link.ask(message) for link in links.values()), return_exceptions=True)
        return {n: a for n, a in zip(links, answers, strict=True) if not isinstance(a, BaseException)}

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        latest = loop.time() + REJOIN_WAIT_S
        while self._worker.rejoins and self._not_ready() and loop.time() < latest:
            await asyncio.sleep(RETRY_S)
        path = self._path(self.number)
        path.unlink(missing_ok=True)
        self._server = await loop.create_unix_server(lambda: _Server(self._answers, self._connected), str(path))

    async def _link(self, worker: int) -> _Link | None:
        link = self._links.get(worker)
        if link is not None and link.is_open:
            return link
        async with self._connecting:
            link = self._links.get(worker)
            if link is not None and link.is_open:
                return link
            try:
                loop = asyncio.get_running_loop()
                _, link = await loop.create_unix_connection(_Link, str(self._path(worker)))
            except OSError:
                return None
            self._links[worker] = link
            return link

    def _path(self, worker: int) -> Path:
        return self._worker.sockets / f"{worker}.sock"


def _error_of(code: str, detail: str, errors: list[FieldError]) -> ServiceError:
    """The error that the peer raised, of the class that has this code."""
    cls = next((cls for cls in _subclasses(ServiceError) if cls.code == code), ServiceError)
    error = cls.__new__(cls)
    ServiceError.__init__(error, detail, errors)
    return error


def _subclasses(cls: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _subclasses(sub)
