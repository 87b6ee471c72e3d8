"""Follows the requests of a service for its audit: the record before one is handled, its answer, and refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.types import Message, Scope, Send

from everloop_schemas.access.recorded import is_recorded
from everloop_schemas.audit import NO_LOOP
from everloop_shared.audit.request import AuditedRequest
from everloop_shared.errors import ServiceError
from everloop_shared.tracing import current_traceparent

if TYPE_CHECKING:
    from everloop_shared.access.control import RouteTable
    from everloop_shared.access.identity import Identity
    from everloop_shared.audit.trail import AuditTrail

AUDITED = "everloop.audited"
"""The key of an ASGI scope for the request as the audit records it; not there while EVERLOOP_AUDIT is off."""
NOT_PERMITTED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
REASONS: Mapping[int, str] = {401: "not_authenticated", 403: "not_permitted", 429: "too_many_requests"}
"""The code of a refusal whose error the guard does not see."""


class RequestAudit:
    """The audit of one service's HTTP requests. Without a trail there is none, and it costs nothing."""

    def __init__(self, service: str, trail: AuditTrail, routes: RouteTable) -> None:
        self._service, self._trail, self._routes = service, trail, routes

    async def follow(
        self, scope: Scope, request_id: str, send: Send, handle: Callable[[Send], Awaitable[None]]
    ) -> None:
        """Have a request handled, and write what was answered where it is recorded or was refused."""
        client = scope.get("client")
        address, trace = client[0] if client else "", current_traceparent()
        request = scope[AUDITED] = AuditedRequest(self._service, address, scope["method"], request_id, trace)

        async def observe(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
            await send(message)

        try:
            await handle(observe)
        finally:
            self._end(request, scope)

    async def record(self, scope: Scope) -> None:
        """Record a request that is about to be handled, if its route's requests are; raises NotRecorded."""
        request: AuditedRequest = scope[AUDITED]
        if self._find(request, scope):
            await self._trail.record(request)

    def _end(self, request: AuditedRequest, scope: Scope) -> None:
        if request.refused is None and request.status is not None:
            request.refused = REASONS.get(request.status)
        if request.is_recorded:
            self._trail.note_answer(request)
        elif request.status in NOT_PERMITTED:
            self._find(request, scope)
            self._trail.note_refusal(request)
        elif request.status == HTTPStatus.TOO_MANY_REQUESTS and self._find(request, scope):
            self._trail.note_refusal(request)

    def _find(self, request: AuditedRequest, scope: Scope) -> bool:
        """Fill in what the request does; whether such requests are recorded."""
        found = self._routes.find(scope["method"], scope["path"])
        if found is None:
            return False
        rule = found.rule
        request.action, request.route, request.loop = rule.action, rule.path, found.loop or request.loop
        return is_recorded(rule.action, rule.method, rule.path)


async def record_as(identity: Identity, trail: AuditTrail, scope: Scope) -> None:
    """Record a request whose route has found out by itself who asks; raises NotRecorded, and nothing may be done."""
    request: AuditedRequest = scope[AUDITED]
    request.identity = identity
    await trail.record(request)


def note_refusal(scope: Scope, error: ServiceError) -> None:
    """Have the audit say which error a request is answered with, where that is a refusal."""
    request: AuditedRequest | None = scope.get(AUDITED)
    if request is not None and error.http_status in REASONS:
        request.refused = error.code
        if request.loop == NO_LOOP:
            request.loop = getattr(error, "loop", None) or NO_LOOP


def request_audit(service: str, trail: AuditTrail | None) -> RequestAudit | None:
    """The audit of a service's requests; None without a trail."""
    if trail is None:
        return None
    from everloop_shared.access.control import RouteTable  # where nothing is recorded, no rules are loaded

    return RequestAudit(service, trail, RouteTable.of_service(service))
