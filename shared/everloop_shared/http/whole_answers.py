"""What every answer of the framework passes: HEAD as GET without a body, OPTIONS, and gzip for who accepts it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everloop_shared.http.methods import AllowedMethods

MIN_COMPRESSED_BYTES = 1_000
"""A smaller answer fits into one packet anyway."""
AT_ONCE_BYTES = 65_536
"""A longer answer is compressed by another thread, so that others are answered meanwhile."""
LEVEL = 5
_NO_BODY = (204, 304)


class WholeAnswers:
    """ASGI middleware between the guard and the framework."""

    def __init__(self, app: ASGIApp, allowed: AllowedMethods) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method == "OPTIONS" and (methods := self._allowed(scope["path"])):
            await send({"type": "http.response.start", "status": 204, "headers": [_allow(methods)]})
            await send({"type": "http.response.body", "body": b""})
            return
        if method == "HEAD":
            scope = {**scope, "method": "GET", "extensions": {}}
        accepted = next((value for name, value in scope["headers"] if name == b"accept-encoding"), b"")
        await self._app(scope, receive, _Answer(send, accepted, without_body=method == "HEAD").send)


class _Answer:
    """One answer: kept until its body is there, as compressing changes its headers."""

    def __init__(self, send: Send, accepted: bytes, *, without_body: bool) -> None:
        self._send, self._accepted, self._without_body = send, accepted, without_body
        self._start: Message | None = None

    async def send(self, message: Message) -> None:
        """Send a message of the framework, with what is missing in it."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, start = message.get("body", b""), self._start
        if start is not None:
            self._start = None
            headers = start["headers"] = list(start.get("headers", ()))
            if start["status"] not in _NO_BODY and not any(name == b"content-encoding" for name, _ in headers):
                add_vary(headers, b"accept-encoding")
                if not message.get("more_body") and self._is_compressed(headers, body):
                    body = await compress(body)
                    headers[:] = [(n, b"%d" % len(body) if n == b"content-length" else v) for n, v in headers]
                    headers.append((b"content-encoding", b"gzip"))
            await self._send(start)
        await self._send({**message, "body": b"" if self._without_body else body})

    def _is_compressed(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        # An ETag names one representation byte for byte; compressed, the answer would need another one.
        if len(body) < MIN_COMPRESSED_BYTES or any(name == b"etag" for name, _ in headers):
            return False
        return accepts_gzip(self._accepted)


async def compress(body: bytes) -> bytes:
    """The body in gzip; the same bytes for the same body."""
    if len(body) <= AT_ONCE_BYTES:
        return gzip.compress(body, LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)


def accepts_gzip(header: bytes) -> bool:
    """Whether `Accept-Encoding` prefers gzip to an answer as it is (RFC 9110, 12.5.3)."""
    if not header:
        return False
    weights: dict[str, float] = {}
    for entry in header.decode("latin-1").lower().split(","):
        coding, *parameters = (part.strip() for part in entry.split(";"))
        weights[coding] = min([_weight(p) for p in parameters if p.startswith("q")], default=1.0)
    compressed = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return compressed > 0 and compressed >= weights.get("identity", 0.0)


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


def add_vary(headers: list[tuple[bytes, bytes]], name: bytes) -> None:
    """Tell caches that the answer depends on this request header."""
    headers.append((b"vary", name))


def _allow(methods: Iterable[str]) -> tuple[bytes, bytes]:
    return b"allow", ", ".join(methods).encode()
