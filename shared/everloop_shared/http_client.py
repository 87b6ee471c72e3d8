"""HTTP/1.1 requests over connections that stay open, on asyncio's streams and h11."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf

import h11

READ_BYTES = 65_536
MOST_IDLE = 20
"""The most connections to one address that are kept for the next requests."""
Address = tuple[str, int]
ProtocolError = h11.RemoteProtocolError
"""The other side does not speak HTTP, or closed the connection before its answer was whole."""


class NotConnected(OSError):
    """Nobody answers at the address, or not in time."""


@dataclass(frozen=True)
class HttpRequest:
    """A request; its headers must have `host` and, with a body, `content-length`."""

    method: str
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes = b""


@dataclass(frozen=True)
class HttpAnswer:
    """An answer, read to its end."""

    status: int
    reason: bytes
    version: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class HttpConnections:
    """Connections that each carry one request after the other; of one event loop. `tls` gives a new one its context.

    An answer whose body has more than `most_bytes` is given up as a ProtocolError, before it is in memory.
    A request on a connection that the server closed while it was idle is sent again on another: send only what may
    arrive twice.
    """

    def __init__(self, tls: Callable[[], ssl.SSLContext] | None = None, most_bytes: float = inf) -> None:
        self._idle: dict[Address, list[_Connection]] = {}
        self._tls, self._most_bytes = tls, most_bytes

    async def send(
        self, address: Address, request: HttpRequest, *, connect_s: float | None, read_s: float | None
    ) -> HttpAnswer:
        """The answer to a request. Raises NotConnected, TimeoutError, OSError and ProtocolError."""
        idle = self._idle.setdefault(address, [])
        while idle:
            with suppress(_ClosedWhileIdle):
                return await self._exchange(idle.pop(), request, read_s, idle)
        opened = await _Connection.open(address, connect_s, self._tls() if self._tls else None)
        return await self._exchange(opened, request, read_s, idle)

    def close(self) -> None:
        """Close all idle connections."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    async def _exchange(
        self, connection: _Connection, request: HttpRequest, read_s: float | None, idle: list[_Connection]
    ) -> HttpAnswer:
        reusable = False
        try:
            async with asyncio.timeout(read_s):
                answer = await connection.exchange(request, self._most_bytes)
            reusable = connection.prepare_next() and len(idle) < MOST_IDLE
        finally:
            if reusable:
                idle.append(connection)
            else:
                connection.close()
        return answer


class _ClosedWhileIdle(Exception):
    """The server closed the connection before it answered a request that it had not read."""


class _Connection:
    """One connection, which carries one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._protocol = h11.Connection(h11.CLIENT)
        self._used = False

    @classmethod
    async def open(cls, address: Address, within_s: float | None, tls: ssl.SSLContext | None) -> _Connection:
        """Connect. Raises NotConnected."""
        try:
            async with asyncio.timeout(within_s):
                return cls(*await asyncio.open_connection(*address, ssl=tls))
        except TimeoutError as e:
            raise NotConnected(f"no connection within {within_s:g} s") from e
        except OSError as e:
            raise NotConnected(str(e) or type(e).__name__) from e

    async def exchange(self, request: HttpRequest, most_bytes: float) -> HttpAnswer:
        """Send a request and read its answer. Raises OSError, ProtocolError and _ClosedWhileIdle."""
        head = h11.Request(method=request.method, target=request.target, headers=list(request.headers))
        sent = [self._protocol.send(event) for event in (head, h11.Data(request.body), h11.EndOfMessage())]
        answer: h11.Response | None = None
        chunks: list[bytes] = []
        room = most_bytes
        try:
            self._writer.write(b"".join(part for part in sent if part))
            while not isinstance(event := self._protocol.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    self._protocol.receive_data(await self._reader.read(READ_BYTES))
                elif isinstance(event, h11.Response):
                    answer = event
                elif isinstance(event, h11.Data):
                    chunks.append(bytes(event.data))
                    room -= len(event.data)
                    if room < 0:
                        raise ProtocolError(f"the answer has more than {most_bytes:,} bytes")
        except (OSError, h11.RemoteProtocolError) as e:
            if self._used and answer is None:
                raise _ClosedWhileIdle from e
            raise
        assert answer is not None  # h11 has no end of a message before its beginning
        headers = [(bytes(name), bytes(value)) for name, value in answer.headers.raw_items()]
        return HttpAnswer(
            answer.status_code, bytes(answer.reason), bytes(answer.http_version), headers, b"".join(chunks)
        )

    def prepare_next(self) -> bool:
        """Whether the connection can carry another request."""
        self._used = True
        if self._protocol.our_state is not h11.DONE or self._protocol.their_state is not h11.DONE:
            return False
        self._protocol.start_next_cycle()
        return True

    def close(self) -> None:
        """Close it without waiting."""
        self._writer.close()
