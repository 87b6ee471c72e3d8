"""Connections: how many there may be, how long each may keep the service waiting, and how much it may send."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from enum import Enum
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from everloop_shared.http.problems import last_words
from everloop_shared.metrics import CONNECTIONS, REFUSED
from everloop_shared.settings import Settings

MAX_URL_BYTES = 8192
MAX_HEADERS = 200
MAX_PIPELINED = 32
PROGRESS_BYTES = 65_536
"""A client that reads fewer bytes of an answer in the time of a body reads none."""
WANTED_FILES = 8192
_HOP_HEADERS = (b"upgrade", b"connection", b"http2-settings")


class Phase(Enum):
    """What of the latest request on a connection is here."""

    IDLE = "nothing"
    HEAD = "a part of its headers"
    BODY = "its headers, and not all of its body"
    WHOLE = "all of it; it waits for its answer"


IDLE, HEAD, BODY, WHOLE = Phase


class Connections:
    """All open connections of one service.

    One too many from an address costs that address the connection that has kept us waiting longest, so that a client
    whose requests are whole gets in beside any number of unfinished ones; one too many in all costs the address that
    has most.
    """

    def __init__(self, service: str, settings: Settings) -> None:
        self.settings = settings
        self._service = service
        self._most = min(settings.max_connections, _raise_file_limit() // 2)
        self._by_address: dict[str, dict[Connection, None]] = {}
        self._count = 0
        self._gauge = CONNECTIONS.labels(service)

    def opened(self, connection: Connection, address: str) -> None:
        """Count it, and close another one, or this one, where there are too many."""
        own = self._by_address.setdefault(address, {})
        own[connection] = None
        self._count += 1
        self._gauge.set(self._count)
        if len(own) > self.settings.max_connections_per_address:
            self._make_room(own, connection)
        elif self._count > self._most:
            self._make_room(max(self._by_address.values(), key=len), connection)

    def closed(self, connection: Connection, address: str) -> None:
        """Forget it."""
        own = self._by_address.get(address, {})
        if connection in own:
            del own[connection]
            self._count -= 1
            self._gauge.set(self._count)
            if not own:
                del self._by_address[address]

    def close_overdue(self, now: float) -> None:
        """Close what has kept us waiting for too long; `now` in the event loop's seconds."""
        for own in list(self._by_address.values()):
            for connection in list(own):
                connection.close_if_overdue(now)

    def refused(self, status: int) -> None:
        """Count what was refused before it was a request."""
        REFUSED.labels(self._service, status).inc()

    def protocol(self) -> type[asyncio.Protocol]:
        """The protocol class for uvicorn, which makes one object of it per connection."""

        class Watched(Connection):
            watch = self
            max_header_bytes = self.settings.max_header_bytes

        return Watched

    def _make_room(self, own: dict[Connection, None], newcomer: Connection) -> None:
        waiting = [c for c in own if c.phase is not WHOLE and c is not newcomer]
        oldest = min(waiting, key=lambda c: c.since, default=newcomer)
        oldest.refuse(429, "too many connections; this one had waited longest for a request to be whole")


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, within limits. It has been in its phase since `since`; a body, since its first header.

    A late body is answered 408 by who reads it; here only what remains unanswered is closed.
    """

    watch: ClassVar[Connections]
    max_header_bytes: ClassVar[int]
    phase = IDLE
    since = 0.0
    _address = ""
    _stalled_since: float | None = None
    _unsent = 0
    _wrong = (400, "this is not HTTP/1.1, or not unambiguously so")
    """Status and reason, should the parser or one of its callbacks raise."""
    _upgrades = False
    _unread = 0
    """Bytes fed to the parser since a request was complete, or a part of a body was seen to come out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it up, within the number of connections."""
        super().connection_made(transport)
        self.since = self.loop.time()
        self._address = self.client[0] if self.client else ""
        self.watch.opened(self, self._address)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.watch.closed(self, self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse what cannot be parsed or grows without end."""
        if self.phase is IDLE:
            self.phase, self.since = HEAD, self.loop.time()
        self._unread += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as e:
                data = self._without_upgrade(data[e.args[0] :])
            except httptools.HttpParserError:
                self.refuse(*self._wrong)
                return
        if self._unread > self.max_header_bytes:
            self._check_progress()

    def on_headers_complete(self) -> None:
        """The request is taken up; what is wrong with it raises, which ends the connection."""
        if self._unread > self.max_header_bytes:
            self._check_size()
        if len(self.url) > MAX_URL_BYTES:
            self._raise(414, f"the address is over {MAX_URL_BYTES:,} bytes")
        if len(self.headers) > MAX_HEADERS:
            self._raise(431, f"there are more than {MAX_HEADERS} headers")
        if len(self.pipeline) >= MAX_PIPELINED:
            self._raise(429, f"more than {MAX_PIPELINED} requests wait on this connection; read the answers first")
        self._upgrades = self.parser.should_upgrade()
        if self._upgrades:
            return  # data_received goes on without it
        if self.url[:1] != b"/":
            self._take_absolute_form()
        super().on_headers_complete()
        self.headers = []  # where trailers go, which nobody reads: the request keeps what it had
        self.phase = BODY

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._upgrades:
            return
        self._unread = 0
        cycle = self.cycle
        if cycle.response_complete:
            self.phase, self.since = IDLE, self.loop.time()
        else:
            self.phase = WHOLE
            cycle.more_body = False
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """The answer is sent; the next request may come. As uvicorn's, without a timer for each: see Connections."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.phase is WHOLE:
            self.phase, self.since = IDLE, self.loop.time()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._stalled_since, self._unsent = self.loop.time(), self.transport.get_write_buffer_size()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has read on."""
        self._stalled_since = None
        super().resume_writing()

    def close_if_overdue(self, now: float) -> None:
        """Close it where headers, body or the reading of the answer take too long."""
        settings = self.watch.settings
        if self._reads_too_slowly(now):
            self.transport.abort()
        elif self.flow.read_paused:
            return  # we keep it waiting, not the other way round
        elif self.phase is BODY and now - self.since > settings.header_timeout_s + settings.body_timeout_s:
            self.refuse(408, f"the body took longer than {settings.body_timeout_s:g} s to arrive")
        elif self.phase in (IDLE, HEAD) and now - self.since > settings.header_timeout_s:
            self.refuse(408, f"the headers took longer than {settings.header_timeout_s:g} s to arrive")

    def refuse(self, status: int, detail: str) -> None:
        """Answer, unless nothing was asked or an answer is under way already, and close."""
        if self.transport.is_closing():
            return
        self.watch.refused(status)
        cycle = getattr(self, "cycle", None)  # none before the first request is taken up
        answering = cycle is not None and cycle.response_started and not cycle.response_complete
        if not answering and self.phase is not IDLE:
            self.transport.write(last_words(status, detail))
        self.transport.close()

    def _reads_too_slowly(self, now: float) -> bool:
        if self._stalled_since is None:
            return False
        unsent = self.transport.get_write_buffer_size()
        if unsent <= self._unsent - PROGRESS_BYTES:
            self._unsent, self._stalled_since = unsent, now
        return now - self._stalled_since > self.watch.settings.body_timeout_s

    def _raise(self, status: int, detail: str) -> None:
        self._wrong = (status, detail)
        raise ValueError(detail)

    def _check_progress(self) -> None:
        if self.phase is BODY and (self.cycle.body or self.cycle.response_complete):
            self._unread = 0  # a part of the body has come, or is thrown away, for as long as a body may take
        else:
            self.refuse(431, self._too_many_headers())

    def _check_size(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.max_header_bytes:
            self._raise(431, self._too_many_headers())

    def _too_many_headers(self) -> str:
        return f"the headers are over {self.max_header_bytes:,} bytes"

    def _take_absolute_form(self) -> None:
        """`GET http://host/path`: its host goes before the Host header (RFC 9112, 3.2.2)."""
        target = httptools.parse_url(self.url)
        if not target.host:
            self._raise(400, "the address must be a path")
        host = b"[%b]" % target.host if b":" in target.host else target.host
        host += b":%d" % target.port if target.port else b""
        self.headers[:] = [h for h in self.headers if h[0] != b"host"] + [(b"host", host)]
        self.url = (target.path or b"/") + (b"?" + target.query if target.query else b"")

    def _without_upgrade(self, rest: bytes) -> bytes:
        """The request again, without the offer of another protocol, which the parser would not read on after."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        kept: list[Any] = [h for h in self.headers if h[0] not in _HOP_HEADERS]
        lines = b"".join(b"%b: %b\r\n" % header for header in kept)
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):  # as uvicorn does; httptools before 0.6.3 has none
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if method == b"CONNECT":
            self.refuse(405, "this is no proxy")
            return b""
        return b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, self.url, version, lines, rest)


def _raise_file_limit() -> int:
    """Descriptors this process may open: the usual 1,024 are few where each client holds one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return WANTED_FILES if soft == resource.RLIM_INFINITY else soft
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
