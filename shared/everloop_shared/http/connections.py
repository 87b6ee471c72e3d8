"""Limits on connections: their number, how long a client may keep the service waiting, and the size of headers."""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum
from time import perf_counter
from typing import Any, ClassVar, Protocol

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from everloop_shared.http.file_limit import raise_file_limit
from everloop_shared.http.problems import raw_problem
from everloop_shared.http.whole_response import offer
from everloop_shared.metrics import CONNECTIONS, REFUSED
from everloop_shared.settings import Settings

MAX_URL_BYTES = 8192
MAX_HEADERS = 200
MAX_PIPELINED_REQUESTS = 32
MIN_PROGRESS_BYTES = 65_536
"""A client that reads fewer bytes of a response within `body_timeout_s` counts as one that does not read."""
IDLE_DRAIN_S = 0.5  # a connection stays open for so long when the service stops: a request may be on its way on it
LAST_READ_S = 0.02
_HOP_HEADERS = (b"upgrade", b"connection", b"http2-settings")


class Phase(Enum):
    """How much of the latest request on a connection has arrived."""

    IDLE = "nothing"
    HEADERS = "a part of its headers"
    BODY = "its headers and a part of its body"
    COMPLETE = "all of it; its response is awaited"


IDLE, HEADERS, BODY, COMPLETE = Phase


class Counted(Protocol):
    """An open connection, as the limiter knows it."""

    phase: Phase
    since: float

    def close_if_overdue(self, now: float) -> None: ...
    def refuse(self, status: int, detail: str) -> None: ...


class ConnectionLimiter:
    """All open connections of one service, limited per client address and in total.

    When an address exceeds its limit, its connection with the longest incomplete request is closed, so that complete
    requests get in beside any number of incomplete ones; when the total exceeds its limit, the address with most
    connections loses one.
    """

    def __init__(self, service: str, settings: Settings) -> None:
        self.settings = settings
        self._service = service
        self._max_total = min(settings.max_connections, raise_file_limit() // 2)
        self._by_address: dict[str, dict[Counted, None]] = {}
        self._count = 0
        self._gauge = CONNECTIONS.labels(service)

    def add(self, connection: Counted, address: str) -> None:
        """Count a new connection; where there are too many, close another one, or this one."""
        own = self._by_address.setdefault(address, {})
        own[connection] = None
        self._count += 1
        self._gauge.set(self._count)
        if len(own) > self.settings.max_connections_per_address:
            self._make_room(own, connection)
        elif self._count > self._max_total:
            self._make_room(max(self._by_address.values(), key=len), connection)

    def remove(self, connection: Counted, address: str) -> None:
        """Stop counting a connection that is closed."""
        own = self._by_address.get(address, {})
        if connection in own:
            del own[connection]
            self._count -= 1
            self._gauge.set(self._count)
            if not own:
                del self._by_address[address]

    def close_overdue(self, now: float) -> None:
        """Close the connections that exceed a timeout; `now` is the time of the event loop, in seconds."""
        for own in list(self._by_address.values()):
            for connection in list(own):
                connection.close_if_overdue(now)

    def count_refusal(self, status: int) -> None:
        """Count a request or connection that no route has seen."""
        REFUSED.labels(self._service, status).inc()

    def protocol(self, base: type[LimitedConnection] | None = None, **attributes: object) -> type[asyncio.Protocol]:
        """The protocol class for uvicorn, which creates one object of it per connection, with these attributes."""
        attributes |= {"limiter": self, "max_header_bytes": self.settings.max_header_bytes}
        return type("ServiceConnection", (base or LimitedConnection,), attributes)

    def _make_room(self, own: dict[Counted, None], newcomer: Counted) -> None:
        waiting = [c for c in own if c.phase is not COMPLETE and c is not newcomer]
        oldest = min(waiting, key=lambda c: c.since, default=newcomer)
        oldest.refuse(429, "too many connections; this one had an incomplete request for the longest time")


class LimitedConnection(HttpToolsProtocol):
    """uvicorn's protocol with limits. `since` is when its phase began; for a body, when its first header arrived.

    `BodyReader` answers a late body with 408; here only connections that remain without an answer are closed.
    """

    limiter: ClassVar[ConnectionLimiter]
    max_header_bytes: ClassVar[int]
    phase, since, started = IDLE, 0.0, 0.0
    _address = ""
    handshake: Counted | None = None
    """Its TLS handshake, in whose place it counts from now on."""
    _stalled_since: float | None = None
    _unsent_bytes = 0
    _parse_error = (400, "the request is not valid HTTP/1.1, or is ambiguous")
    """Status and reason that are answered if the parser or one of its callbacks raises."""
    drains = _upgrade_requested = False
    _answering: RequestResponseCycle | None = None
    """The request that is with the application; those that were sent behind it wait for its answer."""
    _unprocessed_bytes = 0
    """Bytes given to the parser since a request was complete or a part of a body came out of it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._address = self.client[0] if self.client else ""
        if self.handshake is not None:
            self.limiter.remove(self.handshake, self._address)
            self.handshake = None
        self.limiter.add(self, self._address)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        self.limiter.remove(self, self._address)
        self._leave_unanswered()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """A client that sends nothing more is taken for gone, as its transport closes now.

        `connection_lost` comes in a later turn of the event loop; an answer that is ready before that would be written
        to a closed transport, which uvloop refuses: what a stranger half-closed would be logged as a fault of ours.
        """
        self._leave_unanswered()

    def _leave_unanswered(self) -> None:
        """Drop what the requests in progress are answered: their transport closes."""
        latest = getattr(self, "cycle", None)  # None before the first request, which its type does not say
        for cycle in (self._answering, latest):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_message_begin(self) -> None:
        """Note when the first byte of a request came."""
        super().on_message_begin()
        self.started = perf_counter()

    def data_received(self, data: bytes) -> None:
        """Parse the data; refuse what cannot be parsed or exceeds the limit for headers."""
        if self.phase is IDLE:
            self.phase, self.since = HEADERS, self.loop.time()
        self._unprocessed_bytes += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as e:
                data = self._without_upgrade(data[e.args[0] :])
            except httptools.HttpParserError:
                self.refuse(*self._parse_error)
                return
        if self._unprocessed_bytes > self.max_header_bytes:
            self.check_progress()

    def on_headers_complete(self) -> None:
        """Start the request; raises if it exceeds a limit, which ends the connection."""
        if self._unprocessed_bytes > self.max_header_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self.max_header_bytes:
                self._raise(431, self._too_many_headers())
        if len(self.url) > MAX_URL_BYTES:
            self._raise(414, f"the address is longer than {MAX_URL_BYTES:,} bytes")
        if len(self.headers) > MAX_HEADERS:
            self._raise(431, f"there are more than {MAX_HEADERS} headers")
        if len(self.pipeline) >= MAX_PIPELINED_REQUESTS:
            self._raise(
                429, f"more than {MAX_PIPELINED_REQUESTS} requests wait on this connection; read responses first"
            )
        self._upgrade_requested = self.parser.should_upgrade()
        if self._upgrade_requested:
            return  # data_received parses the request again, without the upgrade
        if self.url[:1] != b"/":
            self._use_absolute_form()
        self.begin_request()

    def begin_request(self) -> None:
        """Hand the request to the application; its body follows."""
        super().on_headers_complete()
        if self.drains:
            self.cycle.keep_alive = False
        offer(self.scope, self.cycle, self.started)
        self.headers, self.phase = [], BODY  # trailers go into this list, which is not used: the request has its own

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._upgrade_requested:
            return
        cycle = self.cycle
        if cycle.response_complete:
            self.end_request()
        else:
            self._unprocessed_bytes = 0
            self.phase = COMPLETE
            cycle.more_body = False
            cycle.message_event.set()

    def end_request(self) -> None:
        """The request is complete and answered."""
        self._unprocessed_bytes, self.phase, self.since = 0, IDLE, self.loop.time()

    def on_response_complete(self) -> None:
        """As uvicorn's, without its timer per connection: ConnectionLimiter checks all of them once a second."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.phase is COMPLETE:
            self.phase, self.since = IDLE, self.loop.time()

    def shutdown(self) -> None:
        """Close after the response to the request in progress, or to one that arrives within IDLE_DRAIN_S.

        A first timer would come before the read of a request that has arrived, which a close would reset.
        """
        self.drains = True
        if self.phase in (BODY, COMPLETE):
            super().shutdown()
        else:
            self.loop.call_later(IDLE_DRAIN_S, self.loop.call_later, LAST_READ_S, self._close_if_idle)  # after a read

    def _close_if_idle(self) -> None:
        if self.phase in (IDLE, HEADERS):
            self.transport.close()

    def pause_writing(self) -> None:
        """The client reads more slowly than the service writes."""
        self._stalled_since, self._unsent_bytes = self.loop.time(), self.transport.get_write_buffer_size()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._stalled_since = None
        super().resume_writing()

    def close_if_overdue(self, now: float) -> None:
        """Close it if headers, body, or the reading of the response take too long."""
        settings = self.limiter.settings
        if self._reads_too_slowly(now):
            self.transport.abort()
        elif self.flow.read_paused:
            return  # the service keeps the client waiting, not the other way round
        elif self.phase is BODY and now - self.since > settings.header_timeout_s + settings.body_timeout_s:
            self.refuse(408, f"the body took longer than {settings.body_timeout_s:g} s to arrive")
        elif self.phase in (IDLE, HEADERS) and now - self.since > settings.header_timeout_s:
            self.refuse(408, f"the headers took longer than {settings.header_timeout_s:g} s to arrive")

    def refuse(self, status: int, detail: str) -> None:
        """Respond, unless there is no request or a response has begun, and close."""
        if self.transport.is_closing():
            return
        self.limiter.count_refusal(status)
        cycle = getattr(self, "cycle", None)  # not set before the first request
        responding = cycle is not None and cycle.response_started and not cycle.response_complete
        if not responding and self.phase is not IDLE:
            self.transport.write(self.render_refusal(status, detail))
        self.transport.close()
        self._leave_unanswered()

    def render_refusal(self, status: int, detail: str) -> bytes:
        """The answer to a request that no application sees."""
        return raw_problem(status, detail)

    def _reads_too_slowly(self, now: float) -> bool:
        if self._stalled_since is None:
            return False
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes <= self._unsent_bytes - MIN_PROGRESS_BYTES:
            self._unsent_bytes, self._stalled_since = unsent_bytes, now
        return now - self._stalled_since > self.limiter.settings.body_timeout_s

    def _raise(self, status: int, detail: str) -> None:
        self._parse_error = (status, detail)
        raise ValueError(detail)

    def check_progress(self) -> None:
        """More bytes than headers may have were parsed: refuse them unless they are of a body."""
        if self.phase is BODY and (self.cycle.body or self.cycle.response_complete):
            self._unprocessed_bytes = 0  # the body progresses, or is discarded, within `body_timeout_s`
        else:
            self.refuse(431, self._too_many_headers())

    def _too_many_headers(self) -> str:
        return f"the headers are longer than {self.max_header_bytes:,} bytes"

    def _use_absolute_form(self) -> None:
        """`GET http://host/path`: this host takes precedence over the Host header (RFC 9112, 3.2.2)."""
        target = httptools.parse_url(self.url)
        if not target.host:
            self._raise(400, "the address must be a path")
        host = b"[%b]" % target.host if b":" in target.host else target.host
        host += b":%d" % target.port if target.port else b""
        self.headers[:] = [h for h in self.headers if h[0] != b"host"] + [(b"host", host)]
        self.url = (target.path or b"/") + (b"?" + target.query if target.query else b"")

    def _without_upgrade(self, rest: bytes) -> bytes:
        """The same request without its upgrade to another protocol, after which the parser would stop."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        kept: list[Any] = [h for h in self.headers if h[0] not in _HOP_HEADERS]
        lines = b"".join(b"%b: %b\r\n" % header for header in kept)
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):  # as uvicorn does; httptools before 0.6.3 has none
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if method == b"CONNECT":
            self.refuse(405, "this service is not a proxy")
            return b""
        return b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, self.url, version, lines, rest)
