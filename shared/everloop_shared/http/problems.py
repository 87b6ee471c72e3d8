"""What is answered when a request is refused: problem details, RFC 9457, with or without a framework around."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse

from everloop_shared.errors import DETAIL_LENGTH, ERRORS_LIMIT, EverloopError, FieldError, Rejected, cut

PROBLEM = "application/problem+json"
SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""On every answer: none is more than a page elsewhere may know, and each costs. What only a page needs: see pages."""


class BadRequest(Rejected):
    """The request itself is malformed, whatever its body says."""

    http_status = 400
    title = "Bad request"


class Forbidden(Rejected):
    """A web page that this service does not know asks for a change."""

    http_status = 403
    title = "Forbidden"


class Misdirected(Rejected):
    """The Host is none of this service's names."""

    http_status = 421
    title = "Misdirected request"


class TooLarge(Rejected):
    """A body over the limit."""

    http_status = 413
    title = "Content too large"


class TooSlow(Rejected):
    """A body that did not arrive in time."""

    http_status = 408
    title = "Request timeout"


class UnsupportedType(Rejected):
    """A content type that is not read here."""

    http_status = 415
    title = "Unsupported media type"


def problem(status: int, title: str, detail: str, errors: list[FieldError] | None = None) -> JSONResponse:
    """Problem details, RFC 9457, with the first fields that are wrong; below 64 KB, whatever was sent."""
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    body["detail"] = cut(detail, DETAIL_LENGTH)
    if errors:
        short = [e.short() for e in errors[:ERRORS_LIMIT]]
        body["errors"] = [{"field": e.field, "error": e.error} for e in short]
    return JSONResponse(body, status, media_type=PROBLEM)


def answer(error: EverloopError) -> JSONResponse:
    """The error as problem details, with Retry-After where trying again will help."""
    response = problem(error.http_status, error.title, error.detail, error.errors)
    if error.retry_after is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    return response


def last_words(status: int, detail: str) -> bytes:
    """The whole answer, as bytes, to a connection that is closed after it."""
    phrase = HTTPStatus(status).phrase
    body = json.dumps({"type": "about:blank", "title": phrase, "status": status, "detail": detail}).encode()
    headers = [
        (b"content-type", PROBLEM.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *([(b"retry-after", b"1")] if status in (429, 503) else []),
        *SECURITY,
    ]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, phrase.encode(), lines, body)
