"""The HTTP endpoint of a service, served by uvicorn on a socket of our own."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from fastapi import APIRouter

from everloop_shared.endpoint import Health
from everloop_shared.errors import Misconfigured
from everloop_shared.http.app import GuardedApp, create_app
from everloop_shared.http.browser_sessions import BrowserSessions
from everloop_shared.http.connections import ConnectionLimiter, LimitedConnection
from everloop_shared.http.conventions import Conventions
from everloop_shared.http.direct import DirectRoute
from everloop_shared.http.immediate import ImmediateAnswers, ImmediateConnection
from everloop_shared.http.tls_connections import TlsAcceptor
from everloop_shared.http.uploads import Upload
from everloop_shared.server_tls import ServerTls, server_tls
from everloop_shared.settings import Settings
from everloop_shared.workers import Worker

if TYPE_CHECKING:
    from everloop_shared.audit.trail import AuditTrail

log = logging.getLogger(__name__)
REQUEST_DRAIN_S = 3
"""Seconds that requests in progress have to finish when the service stops."""
LISTEN_BACKLOG = 2_048
TICKS_PER_CHECK = 10
"""uvicorn ticks ten times a second; connections are checked once a second."""
REJOIN_WAIT_S = 5.0
"""A worker that was started again while others serve takes connections once it is ready, at the latest after this."""
REJOIN_POLL_S = 0.02
HANDSHAKE_DRAIN_S = 0.5
"""How long a service that stops lets clients finish the handshakes that have begun."""
TAKE_OVER_EVERY_S = 0.05
"""How often a worker accepts what waits at the sockets of others, which may be stopped, starting or stuck."""


class HttpEndpoint:
    """Serves the routes of `router` beside health, metrics and documentation; see `Endpoint`.

    `direct` are those of its endpoints that answer before the framework, where they can, and `conventions` those of a
    standard protocol that some of them follow; the bodies of `uploads` are read by their routes. `trail` is the audit,
    and `sessions` are those of the service's pages.
    """

    name = "http"

    def __init__(
        self,
        service: str,
        settings: Settings,
        router: APIRouter,
        worker: Worker | None = None,
        direct: Sequence[DirectRoute] = (),
        conventions: Conventions | None = None,
        uploads: Sequence[Upload] = (),
        trail: AuditTrail | None = None,
        sessions: BrowserSessions | None = None,
    ) -> None:
        self._service, self._settings, self._router, self._direct = service, settings, router, direct
        self._worker, self._conventions, self._uploads = worker, conventions, uploads
        self._trail, self._sessions = trail, sessions
        self._server: _Server | None = None
        self._serving: asyncio.Future[None] | None = None
        self.port = 0

    def app(self, health: Health) -> GuardedApp:
        """The ASGI application, with the middleware that every request passes."""
        how = self._direct, self._conventions, self._uploads, self._trail, self._sessions
        return create_app(self._service, self._settings, self._router, health, *how)

    async def start(self, health: Health) -> None:
        """Listen on the address of the settings; raises Misconfigured if it cannot be used, or is open to anybody."""
        self._settings.check_access()
        worker, tls = self._worker, server_tls(self._service, self._settings)
        listener = worker.listeners[worker.number] if worker else _listen(self._service, self._settings)
        others = [each for each in worker.listeners if each is not listener] if worker else []
        host, self.port = listener.getsockname()[:2]
        log.info("listening", extra={"url": f"{'https' if tls else 'http'}://{host}:{self.port}"})
        if not self._settings.has_access_control:
            log.info("EVERLOOP_AUTH is off: whoever reaches this address may do everything")
        connections, app = ConnectionLimiter(self._service, self._settings), self.app(health)
        config = uvicorn.Config(
            app,
            http=self._protocol(connections, app),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=REQUEST_DRAIN_S,
        )
        self._server = _Server(config, connections, others, tls)
        rejoins = health if worker and worker.rejoins else None
        self._serving = asyncio.ensure_future(self._serve(self._server, listener, rejoins))

    def not_ready(self) -> str | None:
        """None once uvicorn accepts connections, or will as soon as the rest of the service is ready."""
        starts_last = self._worker is not None and self._worker.rejoins
        return None if starts_last or (self._server and self._server.started) else "the HTTP endpoint is not started"

    async def ended(self) -> None:
        """Return when uvicorn has ended; raises what broke it."""
        if self._serving is not None:
            await asyncio.wait([self._serving])
            self._serving.result()

    async def drain(self) -> None:
        """Close the socket, wait for requests in progress, at most REQUEST_DRAIN_S seconds, and write their answers."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving])
        if self._trail is not None:
            await self._trail.drain()

    def _protocol(self, connections: ConnectionLimiter, app: GuardedApp) -> type[asyncio.Protocol]:
        if not self._direct:
            return connections.protocol()
        return connections.protocol(
            ImmediateConnection, answers=ImmediateAnswers(app.guard, self._service, self._direct)
        )

    async def _serve(self, server: _Server, listener: socket.socket, rejoins: Health | None) -> None:
        loop = asyncio.get_running_loop()
        latest = loop.time() + REJOIN_WAIT_S
        while rejoins and rejoins.not_ready() and loop.time() < latest and not server.should_exit:
            await asyncio.sleep(REJOIN_POLL_S)
        await server.serve([listener])


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, as the process has its own, and with limits on connections.

    It accepts from `others`, the sockets of other workers, what these have not accepted.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        connections: ConnectionLimiter,
        others: Sequence[socket.socket] = (),
        tls: ServerTls | None = None,
    ) -> None:
        super().__init__(config)
        self._connections, self._others = connections, others
        self._tls = self._acceptor_of(tls) if tls else None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; with TLS by an acceptor of our own."""
        if self._tls is None:
            await super().startup(sockets)
        else:
            for listener in sockets or ():
                self._tls.listen(listener)
            self.servers = cast("list[asyncio.Server]", [self._tls])
            self.started = True

    async def main_loop(self) -> None:
        """Serve until the exit is requested."""
        taking_over = asyncio.ensure_future(self._take_over())
        try:
            await super().main_loop()
        finally:
            taking_over.cancel()

    async def _take_over(self) -> None:
        while self._others:
            await asyncio.sleep(TAKE_OVER_EVERY_S)
            await self._accept_from(self._others)

    async def _accept_from(self, listeners: Sequence[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for listener in listeners:
            with suppress(OSError):  # none waits, or another worker was faster
                while True:
                    if self._tls is not None:
                        self._tls.accept_from(listener)
                        continue
                    connection, _ = listener.accept()
                    connection.setblocking(False)
                    await loop.connect_accepted_socket(self._protocol, connection)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what waits, which would be reset, and accept nothing more; end when all requests are answered."""
        listeners = [*(sockets or ()), *self._others]
        await self._accept_from(listeners)
        if self._tls is not None:
            await self._tls.finish_handshakes(HANDSHAKE_DRAIN_S)
        await super().shutdown(listeners)

    def _acceptor_of(self, tls: ServerTls) -> TlsAcceptor:
        return TlsAcceptor(tls, self._connections, self._protocol, self._connections.settings.header_timeout_s)

    def _protocol(self) -> LimitedConnection:
        create: Any = self.config.http_protocol_class
        protocol: LimitedConnection = create(self.config, self.server_state, self.lifespan.state)
        return protocol

    async def on_tick(self, counter: int) -> bool:
        """Close overdue connections once a second."""
        if counter % TICKS_PER_CHECK == 0:
            self._connections.close_overdue(asyncio.get_running_loop().time())
            if self._tls is not None:
                self._tls.tls.refresh()
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def _listen(service: str, settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=LISTEN_BACKLOG)
    except OSError as e:
        variables = f"EVERLOOP_{service.upper()}_PORT, EVERLOOP_HOST"
        address = f"{settings.host}:{settings.port}"
        raise Misconfigured(f"{variables}: cannot listen on {address} ({e.strerror}); choose another port") from e
