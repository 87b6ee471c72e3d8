"""Responses as one piece of bytes, which costs a third of ASGI's two messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from everloop_shared.http.problems import SECURITY_HEADERS
from everloop_shared.tracing import current_request_id

EXTENSION = "everloop.request"
"""The ASGI extension under which a connection of this package gives its request."""
STARTED = "everloop.started"
"""The key of an ASGI scope for the time of the request's first byte, as of `perf_counter`."""
Header = tuple[bytes, bytes]
VARIES: Header = (b"vary", b"accept-encoding")
"""In every answer 200: others are compressed for clients that accept nothing else."""


def header_lines(headers: Iterable[Header]) -> bytes:
    """Headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


_FIXED = header_lines((*SECURITY_HEADERS, VARIES))


def ok_head(content_type: bytes, body: bytes, headers: Iterable[Header]) -> bytes:
    """Status line and headers of an answer 200 with this body."""
    length = len(body)
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b" % (
        content_type,
        length,
        header_lines(headers),
    )


def whole_response(head: bytes, fixed: bytes, request_id: bytes, body: bytes) -> bytes:
    """A response: status line and headers in `head`, those of every response in `fixed`, and the body."""
    return b"%b%bx-request-id: %b\r\n\r\n%b" % (head, fixed, request_id, body)


def status_of(whole: bytes) -> int:
    """The status of a response that is one piece of bytes."""
    return int(whole[9:12])


def offer(scope: Any, request: RequestResponseCycle, started: float) -> None:
    """Let the application write the response to this request, whose first byte came at `started`, with `write_ok`."""
    scope["extensions"], scope[STARTED] = {EXTENSION: request}, started


def started_at(scope: Scope) -> float:
    """When the first byte of the request came; now, on a connection of another server."""
    started: float = scope.get(STARTED) or perf_counter()
    return started


def write_ok(scope: Scope, content_type: bytes, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> bool:
    """Answer 200 with this body; False where nothing was written, and ASGI's `send` has to do it.

    That is so on a connection of another server, on one that closes after the response, and while its client reads too
    slowly.
    """
    request: RequestResponseCycle | None = scope.get("extensions", {}).get(EXTENSION)
    if request is None or not request.keep_alive or request.flow.write_paused or request.response_started:
        return False
    if request.disconnected:
        return True
    request.response_started = request.response_complete = True
    request.waiting_for_100_continue = False
    head = ok_head(content_type, body, (*request.default_headers, *headers))
    request_id = (current_request_id() or "").encode()
    request.transport.write(whole_response(head, _FIXED, request_id, body))
    request.message_event.set()
    request.on_response()
    return True
