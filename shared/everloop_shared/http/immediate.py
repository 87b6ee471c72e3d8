"""Requests that are answered while they are read: for those of which there are thousands a second (decision 0168)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import ClassVar, NamedTuple, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from everloop_shared.errors import ServiceError, Unavailable
from everloop_shared.http.admission import AnswerAtOnce
from everloop_shared.http.connections import BODY, COMPLETE, LimitedConnection
from everloop_shared.http.direct import DirectAnswer, DirectRoute, Headers, ImmediateAnswer, answer_time
from everloop_shared.http.guard import RequestGuard
from everloop_shared.http.problems import crash_problem, raw_problem, service_problem
from everloop_shared.http.whole_response import VARIES, Header, header_lines, ok_head, status_of, whole_response
from everloop_shared.plain_metrics import Times
from everloop_shared.spans.recorder import Span
from everloop_shared.tracing import continued_trace, describing, sent_request_id, traced

CLOSE: Header = (b"connection", b"close")


class Target(NamedTuple):
    """What answers a request, the name in its address, and what counts the time of the answer."""

    answer: ImmediateAnswer
    name: str
    time: Times


class ImmediateAnswers:
    """The direct routes that can answer at once, behind the same guard as all requests."""

    def __init__(self, guard: RequestGuard, service: str, routes: Sequence[DirectRoute]) -> None:
        self.guard = guard
        self.fixed = header_lines(guard.fixed_headers)
        self.fixed_ok = self.fixed + header_lines([VARIES])
        self._routes = [
            (route.prefix.encode(), route.suffix.encode(), route.answer_at_once, answer_time(service, route))
            for route in routes
            if route.answer_at_once is not None
        ]

    def find(self, url: bytes) -> Target | None:
        """What answers a POST request to this address; None for the application."""
        for prefix, suffix, answer, time in self._routes:
            if url.startswith(prefix) and url.endswith(suffix):
                return Target(answer, url[len(prefix) : -len(suffix)].decode("latin-1"), time)
        return None


class Admitted(NamedTuple):
    """A request that passed the guard, and the id that its answer carries."""

    target: Target
    url: str
    answer_id: bytes
    started: float
    span: Span | None = None


class HeldRequest:
    """A request whose answer comes later, in the place of uvicorn's cycle: what follows on the connection waits."""

    response_started, more_body, body = False, False, b""

    def __init__(self) -> None:
        self.response_complete = self.disconnected = False
        self.keep_alive = True
        self.message_event = asyncio.Event()


class ImmediateConnection(LimitedConnection):
    """A connection that answers what it can as soon as the request is complete, without a task or ASGI.

    So it is for a POST request to a direct route that arrives in one piece, with nothing unusual in its headers, while
    no other request of the connection is in progress. Every other one, and each that the route declines, goes to the
    application, as if nobody had looked at it.
    """

    answers: ClassVar[ImmediateAnswers]
    _target: Target | None = None
    _body = b""

    def begin_request(self) -> None:
        """Hold a request that may be answered at once; hand over every other one."""
        target = self.answers.find(self.url)
        if target is None or not self._is_usual():
            super().begin_request()
        else:
            self._target, self._body, self.phase = target, b"", BODY

    def data_received(self, data: bytes) -> None:
        """Read; a request whose body has not arrived yet is handed over."""
        super().data_received(data)
        if self._target is not None:
            self._hand_over()

    def check_progress(self) -> None:
        """As of a request that is not held."""
        if self._target is not None:
            self._hand_over()
        super().check_progress()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._target is None:
            super().on_body(body)
        else:
            self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        """Answer a request that is held, or hand it over."""
        if self._target is not None:
            if self._answer(self._target):
                self._target = None
                if isinstance(self.cycle, HeldRequest) and not self.cycle.response_complete:
                    self._unprocessed_bytes, self.phase = 0, COMPLETE
                else:
                    self.server_state.total_requests += 1
                    self.end_request()
                return
            self._hand_over()
        super().on_message_complete()

    def render_refusal(self, status: int, detail: str) -> bytes:
        """As its clients read errors, once the address of the request is known."""
        url: bytes = getattr(self, "url", b"")  # not set before the first request
        conventions = self.answers.guard.conventions_at(url.decode("latin-1").partition("?")[0])
        return raw_problem(status, detail, conventions.error_member if conventions else None)

    def _is_usual(self) -> bool:
        parser = self.parser
        cycle = cast(RequestResponseCycle | None, self.cycle)  # None before the first request
        return (
            (cycle is None or cycle.response_complete)
            and not self.drains
            and not self.expect_100_continue
            and not self.flow.write_paused
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
        )

    def _hand_over(self) -> None:
        body, self._target, self._body = self._body, None, b""
        super().begin_request()
        if body:
            super().on_body(body)

    def _answer(self, target: Target) -> bool:
        """Whether the request was answered, or will be by the future that its route has given."""
        url = self.url.decode("latin-1")
        guard = self.answers.guard
        headers = guard.admit_at_once(url, self.headers, self.server, len(self._body))
        if headers is None:
            return False
        answer: AnswerAtOnce = target.answer
        if guard.admission is not None:
            admitted = guard.admission.admit_at_once(url, headers, self._address, target.answer)
            if admitted is None:
                return False
            answer = admitted
        request_id, spans, span = sent_request_id(headers), guard.spans, None
        if spans is None:
            trace = continued_trace(headers.get(b"traceparent"))
        else:
            trace, span = spans.begin(headers)
        request = Admitted(target, url, (request_id or trace[3:35]).encode(), self.started, span)
        try:
            with traced(trace, request=request_id) if request_id else traced(trace):
                if span is None:
                    answered = answer(target.name, Headers(headers), self._body)
                else:
                    with describing(span.attributes):
                        answered = answer(target.name, Headers(headers), self._body)
        except Exception as e:
            self._write(request, self._render_error(request, e))
            return True
        if isinstance(answered, asyncio.Future):
            self._hold(request, answered)
        elif answered is not None:
            self._write(request, self._render_answer(request, answered))
        return answered is not None

    def _write(self, request: Admitted, whole: bytes) -> None:
        self.transport.write(whole)
        request.target.time.observe(perf_counter() - request.started)
        if request.span is not None and (spans := self.answers.guard.spans) is not None:
            spans.end(request.span, "POST", request.url.partition("?")[0], status_of(whole))

    def _hold(self, request: Admitted, answer: asyncio.Future[DirectAnswer]) -> None:
        held = HeldRequest()
        self.cycle = cast(RequestResponseCycle, held)
        self.answers.guard.hold()
        answer.add_done_callback(partial(self._release, request, held))

    def _release(self, request: Admitted, held: HeldRequest, answer: asyncio.Future[DirectAnswer]) -> None:
        """Answer a request that was held, and go on with what came after it."""
        self.answers.guard.release()
        error = Unavailable("the service is stopping; try again") if answer.cancelled() else answer.exception()
        held.response_complete = True
        if held.disconnected or self.transport.is_closing():
            return
        last = () if held.keep_alive else (CLOSE,)
        whole = (
            self._render_error(request, error, last) if error else self._render_answer(request, answer.result(), last)
        )
        self._write(request, whole)
        if last:
            self.transport.close()
        self.on_response_complete()

    def _render_answer(self, request: Admitted, answered: DirectAnswer, more: Sequence[Header] = ()) -> bytes:
        headers = (*self.server_state.default_headers, *answered.headers, *more)
        head = ok_head(answered.content_type, answered.body, headers)
        return whole_response(head, self.answers.fixed_ok, request.answer_id, answered.body)

    def _render_error(self, request: Admitted, error: BaseException, more: Sequence[Header] = ()) -> bytes:
        """As the framework does: the client gets an answer, the log the reason."""
        url = request.url
        problem = service_problem(error, url) if isinstance(error, ServiceError) else crash_problem(error, url)
        if conventions := self.answers.guard.conventions_at(url):
            problem.become_plain(conventions.error_member)
        lines = header_lines((*problem.raw_headers, *self.server_state.default_headers, *more))
        head = STATUS_LINE[problem.status_code] + lines
        return whole_response(head, self.answers.fixed, request.answer_id, bytes(problem.body))
