"""Endpoints that answer before the framework: for requests of which there are thousands a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from everloop_shared.errors import ServiceError
from everloop_shared.http.answer_time import ANSWER_TIMES
from everloop_shared.http.problems import crash_problem, service_problem
from everloop_shared.http.whole_answers import MIN_COMPRESSED_BYTES, compress
from everloop_shared.http.whole_response import VARIES, started_at, write_ok
from everloop_shared.plain_metrics import Times

log = logging.getLogger(__name__)


class DirectAnswer(NamedTuple):
    """The body of an answer with status 200, its content type, and further headers."""

    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Answer(Protocol):
    """Answers a request with a body, of which the guard has already checked the headers, origin and size."""

    def __call__(self, name: str, headers: Headers, body: bytes) -> Awaitable[DirectAnswer | None]:
        """The answer; None, before anything is changed, leaves the request to the framework's route.

        Raises a ServiceError where the framework's route would.
        """


class ImmediateAnswer(Protocol):
    """Answers a request as `Answer` does, without waiting for anything."""

    def __call__(self, name: str, headers: Headers, body: bytes) -> DirectAnswer | asyncio.Future[DirectAnswer] | None:
        """The answer; None, before anything is changed, leaves the request to `Answer`. Raises as it does.

        A future is an answer that another process gives: the connection goes on with its next request after that.
        """


class Headers(Mapping[str, str]):
    """The headers of a request by name, in lower case, decoded when they are read."""

    def __init__(self, raw: Mapping[bytes, bytes]) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        return self._raw[name.encode("latin-1")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def raw(self, name: bytes) -> bytes | None:
        """The bytes of a header; None where it is not given."""
        return self._raw.get(name)


class DirectRoute(NamedTuple):
    """POST requests to `prefix`, a name without a slash, and `suffix`, which names the endpoint in metrics.

    What `answer_at_once` declines is for `answer`.
    """

    prefix: str
    suffix: str
    answer: Answer
    answer_at_once: ImmediateAnswer | None = None


def answer_time(service: str, route: DirectRoute) -> Times:
    """Counts how long the answers of a route take."""
    return ANSWER_TIMES.of(service, route.suffix.strip("/"))


class DirectRoutes:
    """ASGI application that answers some requests itself and leaves all others to `app`, the framework.

    The framework has a route for each of them too: it documents the endpoint, and answers what is declined here, such
    as a request with an error, whose text is worth more than its speed.

    An answer is compressed only for a client that accepts gzip and nothing else: one that lists all it can read does
    not ask for the time that it takes.
    """

    def __init__(self, app: ASGIApp, service: str, routes: Sequence[DirectRoute]) -> None:
        self._app, self._routes = app, routes
        self._times = {route.suffix: answer_time(service, route) for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        route = next((r for r in self._routes if path.startswith(r.prefix) and path.endswith(r.suffix)), None)
        if route is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        started = started_at(scope)
        try:
            await self._answer(route, path, scope, receive, send)
        finally:
            self._times[route.suffix].observe(perf_counter() - started)

    async def _answer(self, route: DirectRoute, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        if message["type"] != "http.request" or message.get("more_body"):
            await self._app(scope, _again(message, receive), send)
            return
        try:
            name = path[len(route.prefix) : -len(route.suffix)]
            headers = Headers(dict(scope["headers"]))
            answered = await route.answer(name, headers, message.get("body", b""))
        except ServiceError as e:
            await service_problem(e, path)(scope, receive, send)
        except Exception as e:  # as the framework does: the client gets an answer, the log the reason
            await crash_problem(e, path)(scope, receive, send)
        else:
            if answered is None:
                await self._app(scope, _again(message, receive), send)
                return
            in_gzip = len(answered.body) >= MIN_COMPRESSED_BYTES and headers.raw(b"accept-encoding") == b"gzip"
            if in_gzip or not write_ok(scope, answered.content_type, answered.body, answered.headers):
                await _send(answered, send, in_gzip=in_gzip)


async def _send(answered: DirectAnswer, send: Send, *, in_gzip: bool) -> None:
    body = await compress(answered.body) if in_gzip else answered.body
    headers = [
        (b"content-type", answered.content_type),
        (b"content-length", b"%d" % len(body)),
        VARIES,
        *answered.headers,
        *([(b"content-encoding", b"gzip")] if in_gzip else []),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _again(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives this message first."""
    pending = [message]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again
