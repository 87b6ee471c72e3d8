"""Bodies that may be larger than others: a route streams them to disk, within limits on size, duration and number."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from everloop_shared.errors import ErrorKind, Overloaded, ServiceError
from everloop_shared.http.bodies import says_more_than
from everloop_shared.http.codings import IDENTITY
from everloop_shared.http.conventions import BROWSER
from everloop_shared.http.problems import (
    BadRequest,
    ContentTooLarge,
    RequestTimeout,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from everloop_shared.settings import Settings

MAX_UPLOADS = 4
"""Bodies that are received to disk at the same time; more are refused with 429."""
WRITTEN_BYTES = 1_000_000
"""What is gathered in memory between two writes."""


class Digest(Protocol):
    """A hash that is being computed."""

    def update(self, data: bytearray, /) -> None: ...


class UploadNotStored(ServiceError):
    """The disk on which a body is received is full or cannot be written."""

    kind = ErrorKind.STORAGE_FULL
    title = "Upload not stored"


class Upload(NamedTuple):
    """Requests by `method` to a path that matches `path` whole: their bodies are left to the route, which calls
    `UploadFolder.receive`.

    `content_types` are those that the route reads; None stands for every one, but none that a browser sends to other
    sites without asking.
    """

    method: str
    path: re.Pattern[str]
    content_types: frozenset[bytes] | None = None

    def check_content_type(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise UnsupportedMediaType unless a body of this content type is read here."""
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if self.content_types is None and headers.get(b"user-agent", b"").startswith(BROWSER):
            raise UnsupportedMediaType("a file of any type is read here, but not from a browser")
        if self.content_types is not None and kind not in self.content_types:
            named = f"{kind.decode(errors='replace')[:80]} is not supported" if kind else "the content type is missing"
            readable = " or ".join(sorted(known.decode() for known in self.content_types))
            raise UnsupportedMediaType(f"{named}; send content-type: {readable}")


class ReceivedFile(NamedTuple):
    """A body on disk, at its beginning; `sha256` in hex."""

    file: IO[bytes]
    size: int
    sha256: str


def find_upload(uploads: Sequence[Upload], scope: Scope) -> Upload | None:
    """The upload that a request is, if it is one."""
    method, path = scope["method"], scope["path"]
    return next((u for u in uploads if u.method == method and u.path.fullmatch(path)), None)


class UploadFolder:
    """Receives bodies as unnamed files in a folder: nothing is left of them, however the process ends.

    A body must arrive as fast as one of `max_body_bytes` has to, so that it takes `body_timeout_s` longer for every
    `max_body_bytes` that have arrived.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder, self._timeout_s, self._rate_bytes = folder, settings.body_timeout_s, settings.max_body_bytes
        self._receiving = 0

    @asynccontextmanager
    async def receive(self, request: Request, max_bytes: int) -> AsyncIterator[ReceivedFile]:
        """The body, of at most `max_bytes`, on disk until the block ends; see problems.py for what is raised."""
        _check_headers(request, max_bytes)
        if self._receiving >= MAX_UPLOADS:
            raise Overloaded(f"{MAX_UPLOADS} uploads are being received, the limit; retry later")
        self._receiving += 1
        try:
            with await asyncio.to_thread(self._open) as file:
                yield await self._write(request, file, max_bytes)
        finally:
            self._receiving -= 1

    def _open(self) -> IO[bytes]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=self._folder)
        except OSError as e:
            raise UploadNotStored(f"the body cannot be received to disk: {e.strerror or e}") from e

    async def _write(self, request: Request, file: IO[bytes], max_bytes: int) -> ReceivedFile:
        digest, size, gathered = sha256(), 0, bytearray()
        loop = asyncio.get_running_loop()
        started, chunks = loop.time(), aiter(request.stream())
        while True:
            deadline = started + self._timeout_s * (1 + size / self._rate_bytes)
            chunk = await _next_chunk(chunks, deadline - loop.time())
            size += len(chunk or b"")
            if size > max_bytes:
                raise _too_large(max_bytes)
            gathered += chunk or b""
            if len(gathered) >= WRITTEN_BYTES or chunk is None:
                await asyncio.to_thread(_write_out, file, gathered, digest)
                gathered = bytearray()
            if chunk is None:
                await asyncio.to_thread(file.seek, 0)
                return ReceivedFile(file, size, digest.hexdigest())


def _write_out(file: IO[bytes], data: bytearray, digest: Digest) -> None:
    digest.update(data)
    try:
        file.write(data)
        file.flush()
    except OSError as e:
        raise UploadNotStored(f"the body cannot be received to disk: {e.strerror or e}") from e


async def _next_chunk(chunks: AsyncIterator[bytes], seconds: float) -> bytes | None:
    """The next part of a body, None at its end."""
    try:
        async with asyncio.timeout(seconds):
            return await anext(chunks)
    except StopAsyncIteration:
        return None
    except ClientDisconnect:
        raise BadRequest("the connection was closed before the body was complete") from None
    except TimeoutError:
        raise RequestTimeout("the body arrives too slowly; send it over a faster connection") from None


def _check_headers(request: Request, max_bytes: int) -> None:
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in IDENTITY:
        raise UnsupportedEncoding(f"the content encoding {coding[:80]} is not supported here; send the file as it is")
    if says_more_than(request.headers.get("content-length", "0").encode("latin-1"), max_bytes):
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> ContentTooLarge:
    return ContentTooLarge(f"the body is over {max_bytes:,} bytes, the limit of this address")
