"""Raw connections that are slow, huge, malformed or very many, and a good one beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvloop
from fastapi import APIRouter, Request, Response
from tests.engines.buses import until

from everloop.local.ports import free_port
from everloop_shared.http import HttpEndpoint, read_body
from everloop_shared.http.connections import LimitedConnection, Phase
from everloop_shared.service import Service
from everloop_shared.settings import Settings

pytestmark = pytest.mark.app

HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
router = APIRouter()
DISCONNECTED = "the client disconnected before the request was complete"
WAITING: list[asyncio.Event] = []


@router.post("/echo")
async def echo(request: Request) -> Response:
    """The body, up to 100,000 bytes, and its content type in a header."""
    return Response(await read_body(request, 100_000), headers={"was": request.headers["content-type"]})


@router.get("/big")
async def big() -> Response:
    """More than any buffer of a connection holds."""
    return Response(b"x" * 20_000_000)


@router.get("/waits")
async def waits() -> Response:
    """Waits until the test releases it."""
    event = asyncio.Event()
    WAITING.append(event)
    await event.wait()
    return Response(b"done")


class RunningService:
    """A service that listens, in its own thread."""

    def __init__(self, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.port, self._loop = port, loop

    def release(self) -> None:
        """Let the waiting requests be answered."""
        for event in WAITING:
            self._loop.call_soon_threadsafe(event.set)

    async def connect(self, first: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which the first bytes are sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(first)
        return reader, writer

    async def exchange(self, first: bytes, within: float = 8) -> bytes:
        """Send the bytes and return what the service sends until it closes the connection."""
        reader, writer = await self.connect(first)
        try:
            async with asyncio.timeout(within):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def echoes(self) -> bool:
        """Whether a good request is answered at once."""
        answer = await self.exchange(POST + b"Connection: close\r\nContent-Length: 1\r\n\r\n1", within=5)
        return status(answer) == 200 and answer.endswith(b"\r\n\r\n1")


StartService = Callable[..., AbstractAsyncContextManager[RunningService]]


@pytest.fixture
def start_service(tmp_path: Path) -> StartService:
    """Starts a service with these settings, on the kind of event loop that services run on."""

    @asynccontextmanager
    async def run(**settings: Any) -> AsyncIterator[RunningService]:
        WAITING.clear()
        own = Settings(data=tmp_path, port=free_port(), **settings)
        served = Service("ingest", own, [HttpEndpoint("ingest", own, router)])
        loop, stop = uvloop.new_event_loop(), asyncio.Event()
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(loop.run_until_complete, served.run(stop))
            try:
                await until(lambda: served.not_ready() is None)
                yield RunningService(served.settings.port, loop)
            finally:
                for event in [*WAITING, stop]:
                    loop.call_soon_threadsafe(event.set)
                await asyncio.wrap_future(running)
                loop.close()

    return run


def status(answer: bytes) -> int:
    """The status of the first answer, 0 where there was none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"y" * (1 << 20) + b"\r\n\r\n", {0, 431}),
        (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 70_000 + b"\r\n\r\n", {431}),
        (b"GET /livez HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 500 + b"\r\n", {431}),
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", {414}),
        (b"GET /livez?" + b"x" * 10_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", {414}),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", {400}),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", {400}),
        (POST + b"Content-Length: +5\r\n\r\nabcde", {400}),
        (POST + b"Content-Length: -5\r\n\r\nabcde", {400}),
        (POST + b"Content-Length: 5, 5\r\n\r\nabcde", {400}),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", {400}),
        (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", {400}),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", {400}),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"e" * 2_000_000 + b"\r\na\r\n0\r\n\r\n", {0, 431}),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"e" * 2_000_000 + b"\r\n\r\n", {0, 431}),
        (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Type : application/json\r\n\r\n", {400}),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", {400}),
        (b"GET /livez HTTP/1.1\r\nHost: a\x00b\r\n\r\n", {400}),
        (b"GET /liv\xc3\xa9z HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
        (b"GET /metrics HTTP/2.0\r\n" + HOST + b"\r\n", {400}),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", {400, 405}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
        (b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n", {400}),
        (b"GET /metrics HTTP/1.0\r\n\r\n", {400}),
        (b"GET /metrics HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\nConnection: close\r\n\r\n", {400}),
        (b"GET http://evil.example/metrics HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", {403}),
        (b"GET http://localhost/metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", {200}),
        (b"GET /readyz HTTP/1.0\r\n\r\n", {200}),
        (POST + b"Transfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", {400}),
        (POST + b"Content-Length: 18446744073709551615\r\nConnection: close\r\n\r\nabc", {413}),
        (POST + b"Content-Length: 20000000\r\nConnection: close\r\n\r\nabc", {413}),
    ],
)
async def test_a_request_that_is_too_large_or_ambiguous_is_refused_and_the_connection_closed(
    start_service: StartService, head: bytes, expected: set[int]
) -> None:
    async with start_service() as service:
        answer = await service.exchange(head)

        assert status(answer) in expected, answer[:300]
        if status(answer) >= 400:
            assert b"application/problem+json" in answer
            assert b"nosniff" in answer
        assert await service.echoes()


async def test_connections_are_closed_whose_headers_do_not_arrive_in_time(
    start_service: StartService,
) -> None:
    async with start_service(header_timeout_s=0.2) as service:
        silent = asyncio.create_task(service.exchange(b""))
        begun = asyncio.create_task(service.exchange(b"GET /livez HTTP/1.1\r\nHo"))
        reader, writer = await service.connect(b"GET /livez HTTP/1.1\r\n" + HOST)
        dripping = asyncio.create_task(_drip(reader, writer))

        answers = [await silent, await begun, await asyncio.wait_for(dripping, 8)]

        assert [status(a) for a in answers[:2]] == [0, 408]
        assert status(answers[2]) in (0, 408)
        assert await service.echoes()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """A header that never ends, a byte at a time; returns what comes back in the end."""
    reading = asyncio.create_task(reader.read())
    while not reading.done():
        writer.write(b"x")
        await asyncio.wait([reading], timeout=0.02)
    writer.close()
    return b"" if reading.exception() else reading.result()  # a byte after the end resets the connection


@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"])
async def test_a_body_that_does_not_arrive_in_time_is_408_and_the_connection_closed(
    start_service: StartService, framing: bytes
) -> None:
    async with start_service(body_timeout_s=0.2) as service:
        answer = await service.exchange(POST + framing)

        assert status(answer) == 408
        assert b"connection: close" in answer
        assert await service.echoes()


async def test_a_chunked_body_over_the_limit_is_refused_before_it_ends(start_service: StartService) -> None:
    async with start_service(max_body_bytes=10_000, body_timeout_s=1) as service:
        reader, writer = await service.connect(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        writer.write((b"1000\r\n" + b"x" * 4096 + b"\r\n") * 3)

        assert status(await asyncio.wait_for(reader.readline(), 5)) == 413
        writer.close()


async def test_incomplete_requests_of_the_same_address_keep_nobody_out(start_service: StartService) -> None:
    async with start_service(max_connections_per_address=20) as service:
        links = [await service.connect(POST + b"Content-Length: 100\r\n\r\n{") for _ in range(60)]

        for _ in range(5):
            assert await service.echoes()

        first, last = links[0][0], links[-1][0]
        assert status(await asyncio.wait_for(first.read(), 5)) == 429
        assert not last.at_eof()
        for _, writer in links:
            writer.close()


async def test_incomplete_bodies_do_not_count_as_requests_in_progress(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.http.guard.RequestGuard.__init__.__kwdefaults__", {"max_requests": 2})
    async with start_service() as service:
        links = [await service.connect(POST + b"Content-Length: 100\r\n\r\n{") for _ in range(10)]

        assert await service.echoes()

        for _, writer in links:
            writer.close()


async def test_announced_bytes_do_not_count_and_the_oldest_incomplete_bodies_are_aborted(
    start_service: StartService,
) -> None:
    async with start_service(max_bytes_in_flight=100_000) as service:
        links = [await service.connect(POST + b"Content-Length: 100000\r\n\r\n{") for _ in range(10)]
        assert await service.echoes()

        for _, writer in links[:5]:
            writer.write(b"x" * 40_000)
        first = await asyncio.wait_for(links[0][0].readline(), 5)

        assert status(first) == 429
        assert await service.echoes()
        for _, writer in links:
            writer.close()


async def test_a_request_in_progress_is_not_closed_for_a_new_connection(start_service: StartService) -> None:
    async with start_service(max_connections_per_address=3) as service:
        working = [await service.connect(b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n") for _ in range(3)]
        await until(lambda: len(WAITING) == 3)

        refused = await service.exchange(b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        service.release()

        assert status(refused) in (0, 429)
        for reader, writer in working:
            assert status(await asyncio.wait_for(reader.readline(), 5)) == 200
            writer.close()


async def test_the_total_limit_leaves_room_for_a_new_connection(start_service: StartService) -> None:
    async with start_service(max_connections=10) as service:
        links = [await service.connect(b"GET ") for _ in range(30)]

        assert await service.echoes()
        for _, writer in links:
            writer.close()


async def test_a_thousand_requests_in_one_write_are_not_queued(start_service: StartService) -> None:
    async with start_service() as service:
        answer = await service.exchange((b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n") * 1000)

        assert len(WAITING) <= 1
        assert status(answer) in (0, 429)
        assert await service.echoes()


async def test_a_few_pipelined_requests_are_answered_in_order(start_service: StartService) -> None:
    one = POST + b"Content-Length: 1\r\n\r\n%d"
    async with start_service() as service:
        answer = await service.exchange(b"".join(one % n for n in range(3)) + b"GET / HTTP/1.0\r\n" + HOST + b"\r\n")

        bodies = [part.partition(b"\r\n\r\n")[2][:1] for part in answer.split(b"HTTP/1.1 200")[1:]]
        assert bodies == [b"0", b"1", b"2"]


async def test_a_client_that_disconnects_is_one_line_in_the_log(
    start_service: StartService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with start_service() as service:
        _, writer = await service.connect(POST + b"Content-Length: 100\r\n\r\n{")
        await writer.drain()
        assert await service.echoes()
        writer.close()
        _, asking = await service.connect(b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n")
        await until(lambda: len(WAITING) == 1)
        asking.close()
        await asking.wait_closed()
        service.release()
        await until(lambda: any(DISCONNECTED in r.getMessage() for r in caplog.records))

    lines = [r for r in caplog.records if r.levelno >= logging.WARNING or DISCONNECTED in r.getMessage()]
    assert [r.getMessage() for r in lines] == [DISCONNECTED]


async def test_a_client_that_does_not_read_its_response_is_disconnected(start_service: StartService) -> None:
    async with start_service(body_timeout_s=0.2) as service:
        link = socket.create_connection(("127.0.0.1", service.port))
        link.sendall(b"GET /big HTTP/1.1\r\n" + HOST + b"\r\n")

        await asyncio.sleep(2.5)  # the fault itself
        read = await asyncio.to_thread(_rest, link)

        assert read < 20_000_000
        assert await service.echoes()


def _rest(link: socket.socket) -> int:
    """The number of bytes until the connection ended, which must be within 5 s."""
    link.settimeout(5)
    read = 0
    with link, contextlib.suppress(ConnectionResetError):
        while part := link.recv(1 << 20):
            read += len(part)
    return read


async def test_trailers_do_not_become_headers(start_service: StartService) -> None:
    chunked = b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\nContent-Type: text/evil\r\nHost: evil\r\n\r\n"
    async with start_service() as service:
        answer = await service.exchange(POST + b"Connection: close\r\n" + chunked)

        assert status(answer) == 200
        assert b"was: application/json" in answer


async def test_a_requested_upgrade_to_another_protocol_is_ignored(start_service: StartService) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
    async with start_service() as service:
        last = b"GET / HTTP/1.0\r\n" + HOST + b"\r\n"
        answer = await service.exchange(POST + offer + b"Content-Length: 3\r\n\r\n123" + last)

        assert status(answer) == 200
        assert b"\r\n\r\n123HTTP/1.1 404" in answer


async def test_a_refused_body_is_read_to_its_end_so_that_the_client_gets_the_response(
    start_service: StartService,
) -> None:
    async with start_service(max_body_bytes=10_000) as service, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"http://127.0.0.1:{service.port}/echo", json="x" * 5_000_000)

        assert answer.status_code == 413
        assert await service.echoes()


def test_what_is_ready_after_a_client_has_ended_its_side_is_not_written_to_a_closed_connection() -> None:
    connection = LimitedConnection.__new__(LimitedConnection)
    waiting = SimpleNamespace(response_complete=False, disconnected=False, message_event=asyncio.Event())
    answered = SimpleNamespace(response_complete=True, disconnected=False, message_event=asyncio.Event())

    for cycle in (waiting, answered, None):
        connection.cycle = cycle  # type: ignore[assignment]
        connection.eof_received()

    assert (waiting.disconnected, waiting.message_event.is_set()) == (True, True)
    assert (answered.disconnected, answered.message_event.is_set()) == (False, False)


def test_what_is_ready_after_the_bytes_behind_a_request_were_refused_is_not_written_to_a_closed_connection() -> None:
    connection = LimitedConnection.__new__(LimitedConnection)
    connection.limiter = SimpleNamespace(count_refusal=lambda status: None)  # type: ignore[misc,assignment]
    connection.phase, sent = Phase.COMPLETE, list[bytes]()
    connection.transport = SimpleNamespace(is_closing=lambda: False, write=sent.append, close=lambda: None)  # type: ignore[assignment]
    cycle = SimpleNamespace(
        response_started=False, response_complete=False, disconnected=False, message_event=asyncio.Event()
    )
    connection.cycle = cycle  # type: ignore[assignment]

    connection.refuse(400, "the request is not valid HTTP/1.1, or is ambiguous")

    assert b"400" in b"".join(sent)
    assert (cycle.disconnected, cycle.message_event.is_set()) == (True, True)


async def test_a_request_with_another_and_bytes_that_are_none_behind_it_is_not_answered_on_a_closed_connection(
    start_service: StartService, caplog: pytest.LogCaptureFixture
) -> None:
    async with start_service() as service:
        reader, writer = await service.connect((b"GET /waits HTTP/1.1\r\n" + HOST + b"\r\n") * 2 + b"\x00 \r\n\r\n")
        refused = status(await reader.read())
        writer.close()
        await writer.wait_closed()

        service.release()

        assert await service.echoes()
    assert refused == 400
    assert not [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


async def test_a_post_without_a_body_with_bytes_that_are_none_behind_it_is_no_fault(
    start_service: StartService, caplog: pytest.LogCaptureFixture
) -> None:
    async with start_service() as service:
        refused = status(await service.exchange(POST + b"\r\n" + b"\x00 \r\n\r\n"))

        assert await service.echoes()
    assert refused == 400
    assert not [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]
