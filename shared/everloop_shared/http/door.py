"""What every request goes through before a route sees it, and every answer after: one middleware for all services."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everloop_shared.errors import EverloopError, Overloaded, Unavailable
from everloop_shared.http.bodies import Bodies, Body, ClientLeft
from everloop_shared.http.problems import SECURITY, BadRequest, TooSlow, answer
from everloop_shared.http.trust import SAFE, Trust
from everloop_shared.metrics import BODY_BYTES, REFUSED
from everloop_shared.tracing import accepted, new_traceparent, traced

if TYPE_CHECKING:
    from everloop_shared.settings import Settings

log = logging.getLogger(__name__)
MAX_IN_FLIGHT = 1000
PROBES = ("/livez", "/readyz")
"""Answered under any name: whoever looks after the process may know it by another one, and they tell nothing."""
SPOKEN = ("1.1", "1.0")
UNLIMITED = "/metrics"
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_SINGLE = (
    b"host",
    b"origin",
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"sec-fetch-site",
    b"transfer-encoding",
)


class Door:
    """ASGI middleware: trust, whole bodies within limits, at most `limit` requests at once, security headers.

    A request takes its place among those only once its body is here, so that unfinished ones keep nobody out. Each is
    handled under a W3C trace context.
    """

    def __init__(self, app: ASGIApp, service: str, settings: Settings, limit: int = MAX_IN_FLIGHT) -> None:
        self._app = app
        self._service = service
        self._limit = limit
        self._inside = 0
        self._trust = Trust(settings.allowed_hosts, settings.host)
        self._bodies = Bodies(settings.max_body_bytes, settings.body_timeout_s, settings.max_bytes_in_flight)
        BODY_BYTES.labels(service).set_function(lambda: self._bodies.used)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _secured(send)
        if scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        body: Body | None = None
        try:
            headers = self._checked(scope)
            if b"content-length" in headers or b"transfer-encoding" in headers:
                body = Body()
                whole = await self._bodies.read(body, headers, receive)
                if b"content-encoding" in headers:
                    whole = self._bodies.decode(body, headers[b"content-encoding"], whole)
                receive = _once(whole, receive)
            if self._inside >= self._limit and scope["path"] != UNLIMITED:
                raise Overloaded(f"{self._limit:,} requests are in hand already")
            self._inside += 1
            try:
                with traced(accepted(headers.get(b"traceparent", b"").decode("latin-1")) or new_traceparent()):
                    await self._app(scope, receive, send)
            finally:
                self._inside -= 1
        except ClientLeft:
            log.info("the connection ended before the request was whole", extra={"path": scope["path"]})
        except EverloopError as e:
            await self._refuse(e, scope, receive, send)
        except asyncio.CancelledError:  # the door closes, and this one took longer than the drain
            await answer(Unavailable("the service is stopping; try again"))(scope, receive, send)
        finally:
            if body is not None:
                self._bodies.release(body)

    def _checked(self, scope: Scope) -> dict[bytes, bytes]:
        """The request's headers by name; raises an EverloopError where the request is none for this service."""
        raw = scope["headers"]
        headers = dict(raw)
        if len(headers) != len(raw) and (name := _repeated(raw)):
            raise BadRequest(f"the header {name.decode()} stands there more than once")
        self._trust.check_host(headers.get(b"host"), scope["server"])
        if scope["method"] not in SAFE:
            self._trust.check_page(headers)
            self._trust.check_type(headers.get(b"content-type"))
        if b"transfer-encoding" in headers and headers[b"transfer-encoding"].lower() != b"chunked":
            raise BadRequest("the only transfer-encoding read here is chunked")
        if scope["http_version"] not in SPOKEN:
            raise BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here")
        path: bytes = scope["raw_path"]
        if b"%" in path and _CONTROL.search(scope["path"]):
            raise BadRequest("the address has control characters in it")
        if path[-1:] == b"/" and len(path) > 1:
            scope["path"] = scope["path"][:-1]  # a trailing slash means the same; one that is part of a name is %2F
        return headers

    async def _refuse(self, error: EverloopError, scope: Scope, receive: Receive, send: Send) -> None:
        REFUSED.labels(self._service, error.http_status).inc()
        response = answer(error)
        if isinstance(error, TooSlow | Overloaded):
            response.headers["connection"] = "close"  # the rest of its body would be waited for
        await response(scope, receive, send)


def _repeated(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    names = [name for name, _ in headers]
    return next((name for name in _SINGLE if names.count(name) > 1), None)


def _once(body: Message, receive: Receive) -> Receive:
    """The body that is here, then whatever the connection says next."""
    message: Message | None = body

    def again() -> Awaitable[Message]:
        nonlocal message
        if message is None:
            return receive()
        said, message = message, None
        return _said(said)

    return again


async def _said(message: Message) -> Message:
    return message


def _secured(send: Send) -> Callable[[Message], Awaitable[None]]:
    def secured(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *SECURITY]
        return send(message)

    return secured
