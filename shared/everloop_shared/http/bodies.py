"""Request bodies: limits on the size and duration of each, and on the bytes of all together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.types import Message, Receive

from everloop_shared.errors import Overloaded, ServiceError
from everloop_shared.http.codings import decode_body
from everloop_shared.http.problems import BadRequest, ContentTooLarge, RequestTimeout

LENGTH_DIGITS = 18
"""A longer content-length is not read as a number: no body has so many bytes."""
DECODED_AT_ONCE_BYTES = 4_096
"""A longer encoded body is decompressed by another thread: it can take milliseconds, in which others are answered."""


class ClientDisconnected(Exception):
    """The client closed its connection before the request was complete."""


class RequestBody:
    """The bytes that one request holds in memory, from its first byte until it is answered."""

    __slots__ = ("refusal", "size", "task")

    def __init__(self) -> None:
        self.size = 0
        self.refusal: ServiceError | None = None
        self.task: asyncio.Task[object] | None = None

    def abort(self, refusal: ServiceError) -> None:
        """Stop waiting for the rest: `BodyReader.read` raises `refusal`."""
        self.refusal = refusal
        if self.task is not None:
            self.task.cancel()


class BodyReader:
    """Reads bodies; aborts those that take too long, and the oldest incomplete ones when memory is short.

    Only bytes that have arrived count, not those that were announced, so an incomplete body costs others nothing.
    """

    def __init__(self, max_bytes: int, timeout_s: float, max_total_bytes: int) -> None:
        """At most `max_bytes` per body, `timeout_s` seconds until it is complete, `max_total_bytes` for all."""
        self.max_bytes, self._max_total_bytes = min(max_bytes, max_total_bytes), max_total_bytes
        self._timeout_s = timeout_s
        self._incomplete: dict[RequestBody, float] = {}  # the deadline of each, oldest first
        self._timer: asyncio.TimerHandle | None = None
        self.bytes_in_memory = 0

    async def read(self, body: RequestBody, headers: Mapping[bytes, bytes], receive: Receive) -> Message:
        """The body as one message; see problems.py and ClientDisconnected for what it raises."""
        if says_more_than(headers.get(b"content-length", b"0"), self.max_bytes):
            raise self._too_large()
        loop = asyncio.get_running_loop()
        body.task = asyncio.current_task()
        self._incomplete[body] = deadline = loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = loop.call_at(deadline, self._abort_overdue)
        chunks: list[bytes] = []
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnected
                if chunk := message.get("body", b""):
                    self._reserve(body, len(chunk))
                if not message.get("more_body"):
                    return {**message, "body": b"".join([*chunks, chunk])} if chunks else message
                chunks.append(chunk)
        except asyncio.CancelledError:
            if body.refusal is None or body.task is None:
                raise
            body.task.uncancel()
            raise body.refusal from None
        finally:
            del self._incomplete[body]

    async def decode(self, body: RequestBody, coding: bytes, message: Message) -> Message:
        """The body without its content encoding, which may make it larger; raises as `decode_body`, or Overloaded."""
        encoded = message.get("body", b"")
        if len(encoded) > DECODED_AT_ONCE_BYTES:
            plain = await asyncio.to_thread(decode_body, encoded, coding, self.max_bytes)
        else:
            plain = decode_body(encoded, coding, self.max_bytes)
        self._reserve(body, len(plain) - len(encoded))
        return {**message, "body": plain}

    def release(self, body: RequestBody) -> None:
        """The request is answered: its bytes are free again."""
        self.bytes_in_memory -= body.size
        body.size = 0

    def _reserve(self, body: RequestBody, size: int) -> None:
        body.size += size
        self.bytes_in_memory += size
        if body.size > self.max_bytes:
            raise self._too_large()
        while self.bytes_in_memory > self._max_total_bytes:
            oldest = next((b for b in self._incomplete if b.size and b.refusal is None), body)
            refusal = Overloaded(f"{self._max_total_bytes:,} bytes of bodies are in memory, the limit; retry later")
            if oldest is body:
                raise refusal
            self.release(oldest)
            oldest.abort(refusal)

    def _abort_overdue(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer, now = None, loop.time()
        for body, deadline in self._incomplete.items():
            if deadline > now:
                self._timer = loop.call_at(deadline, self._abort_overdue)
                return
            if body.refusal is None:
                body.abort(RequestTimeout(f"the body took longer than {self._timeout_s:g} s to arrive"))

    def _too_large(self) -> ContentTooLarge:
        return ContentTooLarge(f"the body is over {self.max_bytes:,} bytes; send it in smaller parts")


def says_more_than(content_length: bytes, max_bytes: int) -> bool:
    """Whether this header says that a body has more bytes; raises BadRequest where it is no number."""
    if not content_length.isdigit():
        raise BadRequest("content-length is not a number")
    return len(content_length) > LENGTH_DIGITS or int(content_length) > max_bytes


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request; raises ContentTooLarge beyond `limit` bytes, where a route has a lower limit."""
    body = await request.body()
    if len(body) > limit:
        raise ContentTooLarge(f"the body is over {limit:,} bytes; send it in smaller parts")
    return body


def counted(receive: Receive, count: Callable[[int], None]) -> Receive:
    """A `receive` that tells how many bytes of the body come."""

    async def receive_counted() -> Message:
        message = await receive()
        if body := message.get("body"):
            count(len(body))
        return message

    return receive_counted


def replay(body: Message, receive: Receive) -> Receive:
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
