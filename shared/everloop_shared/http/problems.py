"""Error responses: problem details (RFC 9457), as a framework response or as bytes for a bare connection."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from everloop_shared.access.errors import NotAuthenticated
from everloop_shared.errors import DETAIL_LENGTH, ERRORS_LIMIT, ErrorKind, FieldError, InputRejected, ServiceError, cut
from everloop_shared.http.conventions import ERROR_MEMBER
from everloop_shared.tracing import current_request_id

log = logging.getLogger(__name__)
PROBLEM = "application/problem+json"
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Added to every response. Headers that only HTML pages need are in `pages`."""
STATUS_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    414: "uri_too_long",
    429: "too_many_requests",
    431: "request_header_fields_too_large",
}
"""Written out here: the names in the standard library differ between versions of Python."""


class BadRequest(InputRejected):
    """The request itself is malformed, whatever its body says."""

    kind = ErrorKind.MALFORMED
    title = "Bad request"


class Forbidden(InputRejected):
    """A web page of an unknown origin requests a change."""

    kind = ErrorKind.PERMISSION_DENIED
    title = "Forbidden"


class MisdirectedRequest(InputRejected):
    """The Host header names none of this service's hosts."""

    kind = ErrorKind.PERMISSION_DENIED
    title = "Host not allowed"


class ContentTooLarge(InputRejected):
    """The body is larger than the limit."""

    kind = ErrorKind.TOO_LARGE
    title = "Content too large"


class RequestTimeout(InputRejected):
    """The body did not arrive in time."""

    kind = ErrorKind.TIMEOUT
    title = "Request timeout"


class UnsupportedMediaType(InputRejected):
    """The endpoint does not read this content type or encoding."""

    kind = ErrorKind.UNSUPPORTED_TYPE
    title = "Unsupported media type"


class UnsupportedEncoding(UnsupportedMediaType):
    """No endpoint reads this content encoding; the answer names those that are read (RFC 9110, 15.5.16)."""

    code = UnsupportedMediaType.code
    accepted = "gzip, deflate"


class ProblemResponse(JSONResponse):
    """Problem details, or where the client expects another form (`Conventions`) the same members as plain JSON."""

    media_type = PROBLEM

    def __init__(self, details: dict[str, Any], status: int) -> None:
        super().__init__(details, status)
        self._details = details

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it in the form that the client expects."""
        if member := scope.get(ERROR_MEMBER):
            self.become_plain(member)
        await super().__call__(scope, receive, send)

    def become_plain(self, member: str) -> None:
        """Have the text of the error in this member, as plain JSON."""
        self.body = self.render({member: self._details["detail"], **self._details})
        self.headers["content-type"], self.headers["content-length"] = "application/json", str(len(self.body))


def problem(status: int, code: str, title: str, detail: str, errors: list[FieldError] | None = None) -> ProblemResponse:
    """Problem details, RFC 9457, with the member `code` and the first field errors; below 64 KB, whatever was sent."""
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "code": code}
    body["detail"] = cut(detail, DETAIL_LENGTH)
    if request_id := current_request_id():
        body["request_id"] = request_id
    if errors:
        shortened = [e.shortened() for e in errors[:ERRORS_LIMIT]]
        body["errors"] = [{"field": e.field, "error": e.error} for e in shortened]
    return ProblemResponse(body, status)


def problem_of(error: ServiceError) -> ProblemResponse:
    """The error as problem details, with Retry-After where a retry can succeed."""
    response = problem(error.http_status, error.code, error.title, error.detail, error.errors)
    if error.retry_after is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, UnsupportedEncoding):
        response.headers["accept-encoding"] = error.accepted
    if isinstance(error, NotAuthenticated):
        response.headers["www-authenticate"] = error.challenge
    return response


def service_problem(error: ServiceError, path: str) -> ProblemResponse:
    """The answer to a request whose handler raised; the log gets those that are not the client's fault."""
    if error.http_status >= 500:
        log.warning("request refused", extra={"path": path, "code": error.code, "reason": error.detail})
    return problem_of(error)


def crash_problem(error: BaseException, path: str) -> ProblemResponse:
    """The answer to a request whose handler failed; the log has the traceback."""
    log.error("request failed", exc_info=error, extra={"path": path})
    return problem(500, ServiceError.code, ServiceError.title, "the service failed; its log has the reason")


def status_problem(status: int, path: str, allowed: Sequence[str]) -> JSONResponse:
    """The answer to a request for which the framework has no route, by its status."""
    phrase = HTTPStatus(status).phrase
    detail = {
        404: f"there is nothing at {path[:200]}; /docs lists what this service answers",
        405: f"{path[:200]} answers {', '.join(allowed)}",
    }.get(status, phrase)
    response = problem(status, code_of_status(status), phrase, detail)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["allow"] = ", ".join(allowed)
    return response


def code_of_status(status: int) -> str:
    """The `code` of a failure of HTTP itself, for which there is no class."""
    return STATUS_CODES.get(status, "http_error")


def raw_problem(status: int, detail: str, error_member: str | None = None) -> bytes:
    """A complete HTTP response as bytes, for a connection that is closed after it; plain JSON with `error_member`."""
    phrase = HTTPStatus(status).phrase
    details = {"type": "about:blank", "title": phrase, "status": status, "code": code_of_status(status)}
    body = json.dumps(({error_member: detail} if error_member else {}) | details | {"detail": detail}).encode()
    headers = [
        (b"content-type", b"application/json" if error_member else PROBLEM.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *([(b"retry-after", b"1")] if status in (429, 503) else []),
        *SECURITY_HEADERS,
    ]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, phrase.encode(), lines, body)
