"""Request bodies: each in time and up to a size, all of them together up to a number of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import Message, Receive

from everloop_shared.errors import EverloopError, Overloaded
from everloop_shared.http.codings import decoded
from everloop_shared.http.problems import BadRequest, TooLarge, TooSlow


class ClientLeft(Exception):
    """The client closed its connection before the request was whole."""


class Body:
    """One body, from its first byte until its request is answered."""

    __slots__ = ("refusal", "size", "task")

    def __init__(self) -> None:
        self.size = 0
        self.refusal: EverloopError | None = None
        self.task: asyncio.Task[object] | None = None

    def end(self, refusal: EverloopError) -> None:
        """Stop waiting for the rest: the reading of it raises `refusal`."""
        self.refusal = refusal
        if self.task is not None:
            self.task.cancel()


class Bodies:
    """Reads bodies, and gives up those that take too long, or the oldest unfinished ones when there is no room.

    Only bytes that are here count, not those that were announced: an unfinished body costs others nothing.
    """

    def __init__(self, limit: int, timeout_s: float, budget: int) -> None:
        """At most `limit` bytes a body, `timeout_s` seconds until it is whole, `budget` bytes in all."""
        self._limit, self._timeout_s, self._budget = min(limit, budget), timeout_s, budget
        self._unfinished: dict[Body, float] = {}  # until when each may take; oldest first
        self._timer: asyncio.TimerHandle | None = None
        self.used = 0

    async def read(self, body: Body, headers: Mapping[bytes, bytes], receive: Receive) -> Message:
        """The whole body as one message; raises BadRequest, TooLarge, TooSlow, Overloaded, ClientLeft."""
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit():
            raise BadRequest("content-length is no number")
        if len(declared) > 18 or int(declared) > self._limit:
            raise self._too_large()
        loop = asyncio.get_running_loop()
        body.task = asyncio.current_task()
        self._unfinished[body] = until = loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = loop.call_at(until, self._end_overdue)
        chunks: list[bytes] = []
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                if chunk := message.get("body", b""):
                    self._make_room(body, len(chunk))
                if not message.get("more_body"):
                    return {**message, "body": b"".join([*chunks, chunk])} if chunks else message
                chunks.append(chunk)
        except asyncio.CancelledError:
            if body.refusal is None or body.task is None:
                raise
            body.task.uncancel()
            raise body.refusal from None
        finally:
            del self._unfinished[body]

    def decode(self, body: Body, coding: bytes, message: Message) -> Message:
        """The body without its content coding, which may make it larger; raises what `decoded` does, or Overloaded."""
        packed = message.get("body", b"")
        plain = decoded(packed, coding, self._limit)
        self._make_room(body, len(plain) - len(packed))
        return {**message, "body": plain}

    def release(self, body: Body) -> None:
        """Give its bytes back."""
        self.used -= body.size
        body.size = 0

    def _make_room(self, body: Body, size: int) -> None:
        body.size += size
        self.used += size
        if body.size > self._limit:
            raise self._too_large()
        while self.used > self._budget:
            oldest = next((b for b in self._unfinished if b.size and b.refusal is None), body)
            refusal = Overloaded(f"{self._budget:,} bytes of bodies are in hand, the limit; send it again later")
            if oldest is body:
                raise refusal
            self.release(oldest)
            oldest.end(refusal)

    def _end_overdue(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer, now = None, loop.time()
        for body, until in self._unfinished.items():
            if until > now:
                self._timer = loop.call_at(until, self._end_overdue)
                return
            if body.refusal is None:
                body.end(TooSlow(f"the body took longer than {self._timeout_s:g} s to arrive"))

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is over {self._limit:,} bytes; send it in smaller parts")


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body; raises TooLarge when it is longer than `limit` bytes, where a route takes less than all."""
    body = await request.body()
    if len(body) > limit:
        raise TooLarge(f"the body is over {limit:,} bytes; send it in smaller parts")
    return body
