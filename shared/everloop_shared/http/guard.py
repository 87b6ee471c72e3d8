"""The middleware of every service: what a request must pass before a route handles it, and headers of each response."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everloop_shared.errors import Overloaded, ServiceError, Unavailable
from everloop_shared.http.bodies import BodyReader, ClientDisconnected, RequestBody
from everloop_shared.http.origin import SAFE_METHODS, OriginPolicy
from everloop_shared.http.problems import SECURITY_HEADERS, BadRequest, RequestTimeout, problem_of
from everloop_shared.metrics import BODY_BYTES, REFUSED
from everloop_shared.settings import Settings
from everloop_shared.tracing import new_traceparent, traced, valid_traceparent

log = logging.getLogger(__name__)
MAX_REQUESTS_IN_PROGRESS = 1000
PROBES = ("/livez", "/readyz")
"""Answered for any Host: an orchestrator may know the process by another name, and the answer reveals nothing."""
HTTP_VERSIONS = ("1.1", "1.0")
NOT_LIMITED = "/metrics"
"""Answered even when the number of requests in progress is at its limit."""
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")
_SINGLE_HEADERS = (
    b"host",
    b"origin",
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"sec-fetch-site",
    b"transfer-encoding",
)


class RequestGuard:
    """ASGI middleware: origin policy, complete bodies within limits, requests in progress, security headers, tracing.

    A request counts as in progress once its body is complete, so that incomplete ones keep nobody out. Each is
    handled under a W3C trace context.
    """

    def __init__(
        self, app: ASGIApp, service: str, settings: Settings, max_requests: int = MAX_REQUESTS_IN_PROGRESS
    ) -> None:
        self._app = app
        self._service = service
        self._max_requests = max_requests
        self._in_progress = 0
        self._policy = OriginPolicy(settings.allowed_hosts, settings.host)
        self._bodies = BodyReader(settings.max_body_bytes, settings.body_timeout_s, settings.max_bytes_in_flight)
        BODY_BYTES.labels(service).set_function(lambda: self._bodies.bytes_in_memory)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_security_headers(send)
        if scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        body: RequestBody | None = None
        try:
            headers = self._check(scope)
            if b"content-length" in headers or b"transfer-encoding" in headers:
                body = RequestBody()
                message = await self._bodies.read(body, headers, receive)
                if b"content-encoding" in headers:
                    message = await self._bodies.decode(body, headers[b"content-encoding"], message)
                receive = _replay(message, receive)
            await self._handle(headers, scope, receive, send)
        except ClientDisconnected:
            log.info("the client disconnected before the request was complete", extra={"path": scope["path"]})
        except ServiceError as e:
            await self._refuse(e, scope, receive, send)
        except asyncio.CancelledError:  # the service stops, and this request took longer than the drain
            await problem_of(Unavailable("the service is stopping; try again"))(scope, receive, send)
        finally:
            if body is not None:
                self._bodies.release(body)

    async def _handle(self, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send) -> None:
        if self._in_progress >= self._max_requests and scope["path"] != NOT_LIMITED:
            raise Overloaded(f"{self._max_requests:,} requests are in progress, the limit; retry later")
        self._in_progress += 1
        try:
            with traced(valid_traceparent(headers.get(b"traceparent", b"").decode("latin-1")) or new_traceparent()):
                await self._app(scope, receive, send)
        finally:
            self._in_progress -= 1

    def _check(self, scope: Scope) -> dict[bytes, bytes]:
        """The request's headers by name; raises a ServiceError if the request is malformed or not allowed."""
        raw = scope["headers"]
        headers = dict(raw)
        if len(headers) != len(raw) and (name := _repeated_header(raw)):
            raise BadRequest(f"the header {name.decode()} is given more than once")
        self._policy.check_host(headers.get(b"host"), scope["server"])
        if scope["method"] not in SAFE_METHODS:
            self._policy.check_origin(headers)
            self._policy.check_content_type(headers)
        if b"transfer-encoding" in headers and headers[b"transfer-encoding"].lower() != b"chunked":
            raise BadRequest("the only transfer-encoding that is read is chunked")
        if scope["http_version"] not in HTTP_VERSIONS:
            raise BadRequest("only HTTP/1.1 and HTTP/1.0 are supported")
        path: bytes = scope["raw_path"]
        if b"%" in path and _CONTROL_CHARACTER.search(scope["path"]):
            raise BadRequest("the address contains control characters")
        if path[-1:] == b"/" and len(path) > 1:
            scope["path"] = scope["path"][:-1]  # a trailing slash means the same; one that is part of a name is %2F
        return headers

    async def _refuse(self, error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
        REFUSED.labels(self._service, error.http_status).inc()
        response = problem_of(error)
        if isinstance(error, RequestTimeout | Overloaded):
            response.headers["connection"] = "close"  # else uvicorn would wait for the rest of the body
        await response(scope, receive, send)


def _repeated_header(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    names = [name for name, _ in headers]
    return next((name for name in _SINGLE_HEADERS if names.count(name) > 1), None)


def _replay(body: Message, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, then what the connection gives next."""
    pending: Message | None = body

    def receive_again() -> Awaitable[Message]:
        nonlocal pending
        if pending is None:
            return receive()
        message, pending = pending, None
        return _completed(message)

    return receive_again


async def _completed(message: Message) -> Message:
    return message


def _with_security_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    def send_with_headers(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
        return send(message)

    return send_with_headers
