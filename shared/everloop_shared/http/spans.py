"""Records the span of an HTTP request, by OpenTelemetry's conventions for servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from starlette.types import Message, Scope, Send

from everloop_schemas.names import is_loop_name
from everloop_shared.spans.recorder import Span, SpanRecorder
from everloop_shared.spans.recorders import recorder_of
from everloop_shared.tracing import describing

if TYPE_CHECKING:
    from everloop_shared.access.control import RouteTable

REFUSED = (401, 403, 429)
"""Answers to requests that may come from anybody: nobody can have these recorded by a flag."""


class RequestSpans:
    """Records spans of one service's requests.

    They tell the route and the loop, and never the address, in which ids of entities and of predictions stand.
    """

    def __init__(self, recorder: SpanRecorder, routes: RouteTable) -> None:
        self._recorder, self._routes = recorder, routes

    def begin(self, headers: Mapping[bytes, bytes]) -> tuple[str, Span | None]:
        """The trace context of a request, and its span where that is recorded."""
        return self._recorder.begin_request(headers.get(b"traceparent"))

    async def follow(
        self, headers: Mapping[bytes, bytes], scope: Scope, send: Send, answer: Callable[[str, Send], Awaitable[None]]
    ) -> None:
        """Have a request answered within its trace, and record it where the trace is recorded."""
        trace, span = self.begin(headers)
        if span is None:
            await answer(trace, send)
            return
        method, path, status = scope["method"], scope["path"], 0
        scope["extensions"] = {}  # so that the answer passes here, and not as one piece of bytes

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with describing(span.attributes):
                await answer(trace, observe)
        finally:
            self.end(span, method, path, status)

    def end(self, span: Span, method: str, path: str, status: int) -> None:
        """The request was answered with this status; 0 where its client went away before."""
        if status in REFUSED and span.is_forced:
            return
        found = self._routes.find(method, path)
        span.name = f"{method} {found.rule.path}" if found else method
        span.attributes["http.request.method"] = method
        if status:
            span.attributes["http.response.status_code"] = status
        if found:
            span.attributes["http.route"] = found.rule.path
            if is_loop_name(found.loop):
                span.attributes["everloop.loop"] = found.loop
        self._recorder.end(span, str(status) if status >= 500 else None)


def request_spans(service: str) -> RequestSpans | None:
    """What records the requests of a service; None where nothing is recorded."""
    recorder = recorder_of(service)
    if recorder is None:
        return None
    from everloop_shared.access.control import RouteTable  # where nothing is recorded, no rules are loaded

    return RequestSpans(recorder, RouteTable.of_service(service))
