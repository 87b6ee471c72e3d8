"""Accepts connections with TLS: each counts, and may be closed, from its first byte on, not after its handshake."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial

from everloop_shared.http.connections import HEADERS, ConnectionLimiter, LimitedConnection
from everloop_shared.server_tls import ServerTls

log = logging.getLogger(__name__)
MOST_ACCEPTED = 64
"""Connections accepted at once, before requests get their turn again."""
ACCEPT_PAUSE_S = 1.0
"""How long nothing is accepted when there are no descriptors left."""
SHUTDOWN_TIMEOUT_S = 2.0
"""How long a closed connection waits for the other side's farewell."""
REFUSED_HANDSHAKE = 495
"""As nginx counts them: the other side's TLS, or its certificate, was refused; nobody is answered so."""


class Handshake:
    """A connection whose TLS is not agreed on yet."""

    phase = HEADERS

    def __init__(self, limiter: ConnectionLimiter, address: str, since: float) -> None:
        self.since = since
        self._limiter, self._address = limiter, address
        self.task: asyncio.Future[None] | None = None

    def begin(self, task: asyncio.Future[None]) -> None:
        """Count it, until `end`; the limiter may refuse it at once."""
        self.task = task
        self._limiter.add(self, self._address)

    def end(self) -> None:
        """It is agreed on, or given up."""
        self._limiter.remove(self, self._address)

    def close_if_overdue(self, now: float) -> None:
        """The handshake has a deadline of its own."""

    def refuse(self, status: int, detail: str) -> None:
        """Close it; there is no way to say why."""
        if self.task is not None and not self.task.done():
            self._limiter.count_refusal(status)
            self.task.cancel()


class TlsAcceptor:
    """Accepts from listening sockets and agrees on TLS; stands among uvicorn's servers.

    asyncio's own server would count a connection after its handshake only, and would keep the first certificate.
    """

    def __init__(
        self,
        tls: ServerTls,
        limiter: ConnectionLimiter,
        create: Callable[[], LimitedConnection],
        handshake_s: float,
    ) -> None:
        self.tls = tls
        self._limiter, self._create, self._handshake_s = limiter, create, handshake_s
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._handshakes: set[asyncio.Future[None]] = set()
        self._closed = False

    def listen(self, listener: socket.socket) -> None:
        """Accept from this socket from now on."""
        listener.setblocking(False)
        self._listeners.append(listener)
        self._loop.add_reader(listener, self._on_waiting, listener)

    def accept_from(self, listener: socket.socket) -> None:
        """Accept what waits there. Raises OSError where nothing does, or no more can be accepted."""
        for _ in range(MOST_ACCEPTED):
            connection, address = listener.accept()
            connection.setblocking(False)
            self._begin(connection, str(address[0]))

    async def finish_handshakes(self, within_s: float) -> None:
        """Give those in progress some time, and end those that need more."""
        if self._handshakes:
            await asyncio.wait(self._handshakes, timeout=within_s)
        for handshake in self._handshakes:
            handshake.cancel()

    def close(self) -> None:
        """Accept nothing more."""
        self._closed = True
        for listener in self._listeners:
            if listener.fileno() >= 0:
                self._loop.remove_reader(listener)
        self._listeners.clear()

    async def wait_closed(self) -> None:
        """Nothing is left to wait for."""

    def _on_waiting(self, listener: socket.socket) -> None:
        try:
            self.accept_from(listener)
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as e:
            log.error("no connection can be accepted for now", extra={"reason": str(e)})
            self._loop.remove_reader(listener)
            self._loop.call_later(ACCEPT_PAUSE_S, self._listen_again, listener)

    def _listen_again(self, listener: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listener, self._on_waiting, listener)

    def _begin(self, connection: socket.socket, address: str) -> None:
        handshake = Handshake(self._limiter, address, self._loop.time())
        task = asyncio.ensure_future(self._agree(connection, handshake))
        self._handshakes.add(task)
        task.add_done_callback(partial(self._on_end, connection, handshake))
        handshake.begin(task)

    async def _agree(self, connection: socket.socket, handshake: Handshake) -> None:
        def create() -> LimitedConnection:
            protocol = self._create()
            protocol.handshake = handshake
            return protocol

        await self._loop.connect_accepted_socket(
            create,
            connection,
            ssl=self.tls.context,
            ssl_handshake_timeout=self._handshake_s,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        )

    def _on_end(self, connection: socket.socket, handshake: Handshake, task: asyncio.Future[None]) -> None:
        self._handshakes.discard(task)
        handshake.end()
        if task.cancelled():
            connection.close()
        elif (error := task.exception()) is not None:
            connection.close()
            self._limiter.count_refusal(REFUSED_HANDSHAKE)
            if not isinstance(error, OSError):  # not TLS, no certificate that is trusted, too late, or gone
                log.error("a handshake failed", exc_info=error)
