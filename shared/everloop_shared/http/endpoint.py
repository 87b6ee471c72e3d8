"""The HTTP endpoint of a service, served by uvicorn on a socket of our own."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import APIRouter, FastAPI

from everloop_shared.endpoint import Health
from everloop_shared.errors import Misconfigured
from everloop_shared.http.app import create_app
from everloop_shared.http.connections import ConnectionLimiter
from everloop_shared.settings import Settings

log = logging.getLogger(__name__)
REQUEST_DRAIN_S = 3
"""Seconds that requests in progress have to finish when the service stops."""
LISTEN_BACKLOG = 2_048
TICKS_PER_CHECK = 10
"""uvicorn ticks ten times a second; connections are checked once a second."""


class HttpEndpoint:
    """Serves the routes of `router` beside health, metrics and documentation; see `Endpoint`."""

    name = "http"

    def __init__(self, service: str, settings: Settings, router: APIRouter) -> None:
        self._service, self._settings, self._router = service, settings, router
        self._server: _Server | None = None
        self._serving: asyncio.Future[None] | None = None
        self.port = 0

    def app(self, health: Health) -> FastAPI:
        """The ASGI application, with the middleware that every request passes."""
        return create_app(self._service, self._settings, self._router, health)

    async def start(self, health: Health) -> None:
        """Listen on the address of the settings; raises Misconfigured if it cannot be used."""
        listener = _listen(self._service, self._settings)
        host, self.port = listener.getsockname()[:2]
        log.info("listening", extra={"url": f"http://{host}:{self.port}"})
        connections = ConnectionLimiter(self._service, self._settings)
        config = uvicorn.Config(
            self.app(health),
            http=connections.protocol(),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=REQUEST_DRAIN_S,
        )
        self._server = _Server(config, connections)
        self._serving = asyncio.ensure_future(self._server.serve([listener]))

    def not_ready(self) -> str | None:
        """None once uvicorn accepts connections."""
        return None if self._server and self._server.started else "the HTTP endpoint is not started"

    async def ended(self) -> None:
        """Return when uvicorn has ended; raises what broke it."""
        if self._serving is not None:
            await asyncio.wait([self._serving])
            self._serving.result()

    async def drain(self) -> None:
        """Close the socket and wait for requests in progress, at most REQUEST_DRAIN_S seconds."""
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.wait([self._serving])


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, as the process has its own, and with limits on connections."""

    def __init__(self, config: uvicorn.Config, connections: ConnectionLimiter) -> None:
        super().__init__(config)
        self._connections = connections

    async def on_tick(self, counter: int) -> bool:
        """Close overdue connections once a second."""
        if counter % TICKS_PER_CHECK == 0:
            self._connections.close_overdue(asyncio.get_running_loop().time())
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
