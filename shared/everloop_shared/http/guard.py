"""The middleware of every service: what a request must pass before a route handles it, and headers of each response."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everloop_shared.errors import Overloaded, ServiceError, Unavailable
from everloop_shared.http.admission import admission
from everloop_shared.http.audited import note_refusal, request_audit
from everloop_shared.http.bodies import BodyReader, ClientDisconnected, RequestBody, replay
from everloop_shared.http.browser_sessions import BrowserSessions
from everloop_shared.http.conventions import Conventions
from everloop_shared.http.cors import CrossOrigin, HeaderList
from everloop_shared.http.methods import AllowedMethods
from everloop_shared.http.origin import SAFE_METHODS, OriginPolicy
from everloop_shared.http.problems import (
    SECURITY_HEADERS,
    BadRequest,
    RequestTimeout,
    UnsupportedMediaType,
    problem_of,
)
from everloop_shared.http.spans import request_spans
from everloop_shared.http.uploads import Upload, find_upload
from everloop_shared.metrics import BODY_BYTES, REFUSED
from everloop_shared.settings import Settings
from everloop_shared.tracing import continued_trace, sent_request_id, traced

if TYPE_CHECKING:
    from everloop_shared.audit.trail import AuditTrail

log = logging.getLogger(__name__)
MAX_REQUESTS_IN_PROGRESS = 1000
PROBES = ("/livez", "/readyz")
"""Answered for any Host: an orchestrator may know the process by another name, and the answer reveals nothing."""
HTTP_VERSIONS = ("1.1", "1.0")
NOT_LIMITED = "/metrics"
"""Answered even when the number of requests in progress is at its limit."""
NOT_RECORDED = (*PROBES, NOT_LIMITED)
BODY_HEADERS = {b"content-type", b"content-length", b"transfer-encoding"}
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")
_SINGLE_HEADERS = (
    b"host",
    b"origin",
    b"authorization",
    b"cookie",
    b"x-csrf-token",
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"sec-fetch-site",
    b"transfer-encoding",
)
_LOOKED_AT = frozenset((b"origin", b"sec-fetch-site", b"content-encoding", b"transfer-encoding"))
"""Headers of requests that do not pass at once: pages in browsers send them, and bodies that are not plain."""


class RequestGuard:
    """ASGI middleware: origin policy, who may do what, limits, security headers, tracing.

    A request counts as in progress once its body is complete, so that incomplete ones keep nobody out; the bodies of
    `uploads` are read by their routes. Each is handled under a W3C trace context.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: str,
        settings: Settings,
        allowed: AllowedMethods,
        conventions: Conventions | None = None,
        uploads: Sequence[Upload] = (),
        trail: AuditTrail | None = None,
        sessions: BrowserSessions | None = None,
        *,
        max_requests: int = MAX_REQUESTS_IN_PROGRESS,
    ) -> None:
        self._app, self._allowed, self._conventions, self._uploads = app, allowed, conventions, uploads
        self._service = service
        self._max_requests = max_requests
        self._in_progress = 0
        self._cross_origin = CrossOrigin(settings.cors_origins)
        self._policy = OriginPolicy(settings.allowed_hosts, settings.host, self._cross_origin.origins)
        self._bodies = BodyReader(settings.max_body_bytes, settings.body_timeout_s, settings.max_bytes_in_flight)
        self.admission = admission(settings, service, sessions)
        """Who may do what, and how much; None where nobody is asked and limited."""
        self._audit = request_audit(service, trail)
        self.spans = request_spans(service)
        """Records spans of requests; None where nothing is recorded."""
        BODY_BYTES.labels(service).set_function(lambda: self._bodies.bytes_in_memory)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self.spans is not None and scope["path"] not in NOT_RECORDED:
            await self.spans.follow(headers, scope, send, partial(self._trace, headers, scope, receive))
        else:
            await self._trace(headers, scope, receive, continued_trace(headers.get(b"traceparent")), send)

    async def _trace(self, headers: dict[bytes, bytes], scope: Scope, receive: Receive, trace: str, send: Send) -> None:
        """Answer within a trace."""
        request_id = sent_request_id(headers)
        added = self._cross_origin.headers_for(headers.get(b"origin"))
        if added:
            scope["extensions"] = {}  # the one write of `write_ok` has no place for them
        send = _with_headers(send, [(b"x-request-id", (request_id or trace[3:35]).encode()), *added])
        with traced(trace, request=request_id) if request_id else traced(trace):
            if scope["path"] in PROBES:
                await self._app(scope, receive, send)
            elif self._audit is None:
                await self._receive(headers, scope, receive, send)
            else:
                answer_id = request_id or trace[3:35]
                await self._audit.follow(
                    scope, answer_id, send, lambda send: self._receive(headers, scope, receive, send)
                )

    async def _receive(self, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send) -> None:
        try:
            try:
                self._check(headers, scope)
            except ServiceError:
                if self.admission is not None:
                    await self.admission.count_stranger(scope)
                raise
            if self._cross_origin.origins and await self._answer_preflight(headers, scope, send):
                return
            if self.admission is None:
                await self._take(headers, scope, receive, send)
                return
            is_route = partial(self._is_route, scope["method"], scope["path"])
            await self.admission.take(
                headers, scope, receive, is_route, lambda counted: self._take(headers, scope, counted, send)
            )
        except ClientDisconnected:
            log.info("the client disconnected before the request was complete", extra={"path": scope["path"]})
        except ServiceError as e:
            await self._refuse(e, scope, receive, send)
        except asyncio.CancelledError:  # the service stops, and this request took longer than the drain
            await problem_of(Unavailable("the service is stopping; try again"))(scope, receive, send)

    def _is_route(self, method: str, path: str) -> bool:
        return method != "OPTIONS" and method in self._allowed(path)

    async def _take(self, headers: dict[bytes, bytes], scope: Scope, receive: Receive, send: Send) -> None:
        """Record the request where that is to be, read the body, within the limits, and handle it."""
        if scope["method"] not in SAFE_METHODS:
            self._check_content_type(headers, scope)
        if self._audit is not None:
            await self._audit.record(scope)
        body: RequestBody | None = None
        try:
            has_body = b"content-length" in headers or b"transfer-encoding" in headers
            if has_body and not find_upload(self._uploads, scope):
                body = RequestBody()
                message = await self._bodies.read(body, headers, receive)
                if b"content-encoding" in headers:
                    message = await self._bodies.decode(body, headers[b"content-encoding"], message)
                receive = replay(message, receive)
            elif not has_body and scope["method"] not in SAFE_METHODS:
                receive = replay({"type": "http.request"}, receive)  # all of it is here, also where the client is gone
            await self._handle(scope, receive, send)
        finally:
            if body is not None:
                self._bodies.release(body)

    def admit_at_once(
        self, url: str, raw: list[tuple[bytes, bytes]], server: tuple[str, int | None] | None, body_bytes: int
    ) -> dict[bytes, bytes] | None:
        """The headers by name of a complete POST request that passes as it is, and is answered with `fixed_headers`.

        Where this is None it may pass all the same, or is refused with the reason, once it comes through the
        middleware.
        """
        headers = dict(raw)
        if self._in_progress >= self._max_requests or body_bytes > self._bodies.max_bytes:
            return None
        if len(headers) != len(raw) or not _LOOKED_AT.isdisjoint(headers) or headers.get(b"accept-encoding") == b"gzip":
            return None
        try:
            self._policy.check_host(headers.get(b"host"), server)
            conventions = self.conventions_at(url)
            if conventions is None or not conventions.reads(headers):
                self._policy.check_content_type(headers)
        except ServiceError:
            return None
        return headers

    async def may_read_remarks(self, authorization: str | None) -> bool:
        """Whether whoever sends this may read what a service says of loops at an address that asks nobody."""
        access = self.admission.access if self.admission else None
        if access is None:
            return True
        try:
            sent = None if authorization is None else authorization.encode("latin-1")
            return (await access.identify(sent)).may_everywhere("loops.read")
        except ServiceError:
            return False

    def hold(self) -> None:
        """Count a request, admitted at once, whose answer comes later."""
        self._in_progress += 1

    def release(self) -> None:
        """Its answer has come."""
        self._in_progress -= 1

    def conventions_at(self, url: str) -> Conventions | None:
        """The conventions of the endpoint at this address, where it has some of its own."""
        return self._conventions if self._conventions and self._conventions.covers(url) else None

    @property
    def fixed_headers(self) -> HeaderList:
        """What the answer to a request without an origin carries, beside its request id."""
        return [*SECURITY_HEADERS, *self._cross_origin.headers_for(None)]

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._in_progress >= self._max_requests and scope["path"] != NOT_LIMITED:
            raise Overloaded(f"{self._max_requests:,} requests are in progress, the limit; retry later")
        self._in_progress += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_progress -= 1

    def _check(self, headers: dict[bytes, bytes], scope: Scope) -> None:
        """Raises a ServiceError if the request is malformed, or not for this service from this page."""
        raw = scope["headers"]
        if self._conventions:
            self._conventions.apply(scope)
        if len(headers) != len(raw) and (name := _repeated_header(raw)):
            raise BadRequest(f"the header {name.decode()} is given more than once")
        self._policy.check_host(headers.get(b"host"), scope["server"])
        path: bytes = scope["raw_path"]
        if path[-1:] == b"/" and len(path) > 1:
            scope["path"] = scope["path"][:-1]  # a trailing slash means the same; one that is part of a name is %2F
        if scope["method"] not in SAFE_METHODS:
            self._policy.check_origin(headers)
        if b"transfer-encoding" in headers and headers[b"transfer-encoding"].lower() != b"chunked":
            raise BadRequest("the only transfer-encoding that is read is chunked")
        if scope["http_version"] not in HTTP_VERSIONS:
            raise BadRequest("only HTTP/1.1 and HTTP/1.0 are supported")
        if b"%" in path and _CONTROL_CHARACTER.search(scope["path"]):
            raise BadRequest("the address contains control characters")

    def _check_content_type(self, headers: dict[bytes, bytes], scope: Scope) -> None:
        """As the policy; an address without a route for the method is left to the framework, which says so."""
        conventions = self.conventions_at(scope["path"])
        if conventions is not None and conventions.reads(headers):
            return
        if upload := find_upload(self._uploads, scope):
            upload.check_content_type(headers)
            return
        if scope["method"] != "POST" and not headers.keys() & BODY_HEADERS:
            return  # there is no body to read, and a browser asks before it sends such a method across origins
        try:
            self._policy.check_content_type(headers)
        except UnsupportedMediaType:
            if scope["method"] in self._allowed(scope["path"]):
                raise

    async def _answer_preflight(self, headers: dict[bytes, bytes], scope: Scope, send: Send) -> bool:
        """Whether this was a preflight request of a page that may ask, which is answered then."""
        methods = self._allowed(scope["path"]) if scope["method"] == "OPTIONS" else ()
        granted = self._cross_origin.preflight(headers, methods) if methods else None
        if granted is None:
            return False
        await send({"type": "http.response.start", "status": 204, "headers": granted})
        await send({"type": "http.response.body", "body": b""})
        return True

    async def _refuse(self, error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
        REFUSED.labels(self._service, error.http_status).inc()
        note_refusal(scope, error)
        response = problem_of(error)
        if isinstance(error, RequestTimeout | Overloaded):
            response.headers["connection"] = "close"  # else uvicorn would wait for the rest of the body
        await response(scope, receive, send)


def _repeated_header(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    names = [name for name, _ in headers]
    return next((name for name in _SINGLE_HEADERS if names.count(name) > 1), None)


def _with_headers(send: Send, added: HeaderList) -> Callable[[Message], Awaitable[None]]:
    def send_with_headers(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS, *added]
        return send(message)

    return send_with_headers
