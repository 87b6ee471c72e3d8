"""Endpoints that answer before the framework: the same answers, and everything else is left to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, Request
from tests.builders.running import run_until_exit
from tests.processes import accepts

from everloop_shared.errors import FieldError, InputRejected
from everloop_shared.http import HttpEndpoint
from everloop_shared.http.direct import DirectAnswer, DirectRoute, Headers
from everloop_shared.service import Service
from everloop_shared.settings import Settings
from everloop_shared.tracing import current_traceparent

pytestmark = pytest.mark.app
JSON = {"content-type": "application/json"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
router = APIRouter()


@router.post("/v1/things/{name}/do")
async def do(name: str, request: Request) -> dict[str, str]:
    """The framework's route."""
    return {"by": "framework", "name": name, "body": (await request.body()).decode()}


async def answer(name: str, headers: Headers, body: bytes) -> DirectAnswer | None:
    """The direct route."""
    if name == "declined" or "x-declined" in headers:
        return None
    if name == "rejected":
        raise InputRejected("no good", [FieldError("a.b", "must be a number")])
    if name == "fails":
        raise ValueError("secret")
    return DirectAnswer(b'{"by":"direct","trace":"%b"}' % (current_traceparent() or "").encode())


def answer_at_once(name: str, headers: Headers, body: bytes) -> DirectAnswer | None:
    """The direct route for what needs nothing to be awaited."""
    if name == "waits":
        return None
    if name == "rejected":
        raise InputRejected("no good", [FieldError("a.b", "must be a number")])
    if name in ("declined", "fails") or "x-declined" in headers:
        return None
    return DirectAnswer(b'{"by":"direct","trace":"%b"}' % (current_traceparent() or "").encode())


def answer_later(name: str, headers: Headers, body: bytes) -> asyncio.Future[DirectAnswer] | None:
    """The direct route for what another process answers, with its errors; what it declines as above."""
    if name in ("waits", "declined") or "x-declined" in headers:
        return None
    return asyncio.ensure_future(_answer_after_others(name, headers, body))


async def _answer_after_others(name: str, headers: Headers, body: bytes) -> DirectAnswer:
    for _ in range(3):
        await asyncio.sleep(0)
    answered = await answer(name, headers, body)
    assert answered is not None
    return answered


AT_ONCE = {"at once": answer_at_once, "later": answer_later, "by a task": None}


@pytest.fixture(params=AT_ONCE)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that listens on a socket."""
    route = DirectRoute("/v1/things/", "/do", answer, AT_ONCE[request.param])
    endpoint = HttpEndpoint("example", Settings(max_body_bytes=100_000), router, direct=[route])
    service = Service("example", Settings(), endpoints=[endpoint])
    async with run_until_exit(service), httpx.AsyncClient(base_url=f"http://127.0.0.1:{endpoint.port}") as http:
        yield http


async def test_a_direct_answer_has_the_headers_and_the_trace_of_every_other(client: httpx.AsyncClient) -> None:
    direct = await client.post("/v1/things/a/do", content=b"{}", headers=JSON | {"traceparent": TRACE})
    other = await client.post("/v1/things/declined/do", content=b"{}", headers=JSON)

    assert direct.json() == {"by": "direct", "trace": TRACE}
    assert (direct.status_code, direct.http_version) == (200, "HTTP/1.1")
    assert direct.headers.keys() == other.headers.keys()
    assert direct.headers["content-type"] == other.headers["content-type"] == "application/json"


async def test_what_is_declined_reaches_the_framework_with_its_body(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post("/v1/things/declined/do", content=b'{"a":1}', headers=JSON),
        await client.post("/v1/things/a/do", content=b'{"a":1}', headers=JSON | {"x-declined": "1"}),
        await client.post("/v1/things/declined/do/", content=b'{"a":1}', headers=JSON),
    ]

    assert [a.json()["by"] for a in answers] == ["framework"] * 3
    assert [a.json()["body"] for a in answers] == ['{"a":1}'] * 3


async def test_errors_are_problem_details_and_tell_no_secret(client: httpx.AsyncClient) -> None:
    rejected = await client.post("/v1/things/rejected/do", content=b"{}", headers=JSON)
    failed = await client.post("/v1/things/fails/do", content=b"{}", headers=JSON)

    assert (rejected.status_code, rejected.json()["errors"][0]["field"]) == (422, "a.b")
    assert (failed.status_code, failed.json()["code"]) == (500, "internal_error")
    assert "secret" not in failed.text


async def test_the_guard_stands_before_direct_routes_too(client: httpx.AsyncClient) -> None:
    url = "/v1/things/a/do"
    answers = [
        await client.post(url, content=b"{}", headers=JSON | {"host": "evil.example"}),
        await client.post(url, content=b"{}", headers=JSON | {"origin": "http://evil.example"}),
        await client.post(url, content=b"{}", headers={"content-type": "text/plain"}),
        await client.get(url),
    ]

    assert [a.status_code for a in answers] == [403, 403, 415, 405]


@pytest.mark.parametrize("more", [b"connection: close\r\n", b"connection: keep-alive\r\n", b"expect: 100-continue\r\n"])
async def test_pipelined_requests_and_a_last_one_are_answered_whole(client: httpx.AsyncClient, more: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    head = (
        b"POST /v1/things/a/do HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
    )
    writer.write((head + b"\r\n{}") * 3 + head + more + b"\r\n{}")
    if b"keep-alive" in more or b"expect" in more:
        writer.write(head + b"connection: close\r\n\r\n{}")
    whole = await asyncio.wait_for(reader.read(), 10)
    writer.close()

    expected = 4 if b"close" in more else 5
    assert whole.count(b"HTTP/1.1 200 OK") == whole.count(b'{"by":"direct"') == expected
    assert whole.rstrip().endswith(b"}")


async def test_requests_are_answered_in_their_order_whichever_way_each_is_answered(client: httpx.AsyncClient) -> None:
    names = [b"a", b"waits", b"b", b"declined", b"rejected", b"c"]

    whole = await sent(client, *(request(name) for name in names), LAST)

    answers = [part.partition(b"\r\n\r\n")[2] for part in whole.split(b"HTTP/1.1 ")[1:]]
    assert [a[:14] for a in answers] == [b'{"by":"direct"'] * 3 + [b'{"by":"framewo', b'{"type":"about'] + [
        b'{"by":"direct"'
    ] * 2


async def test_a_request_that_arrives_in_pieces_gets_the_same_answer(client: httpx.AsyncClient) -> None:
    large = request(b"a", body=b" " * 20_000), request(b"declined", body=b" " * 20_000)
    bytewise = [bytes([byte]) for byte in request(b"a")]

    halves = [half for whole in large for half in (whole[:9_000], whole[9_000:])]
    whole = await sent(client, *bytewise, *halves, LAST)

    assert [part.split(b"\r\n")[0] for part in whole.split(b"HTTP/1.1 ")[1:]] == [b"200 OK"] * 4
    assert whole.count(b'{"by":"direct"') == 3
    assert whole.count(b" " * 20_000) == 1


async def test_a_body_above_the_limit_or_in_chunks_is_not_answered_at_once(client: httpx.AsyncClient) -> None:
    large = await client.post("/v1/things/a/do", content=b" " * 100_001, headers=JSON)

    async def parts() -> AsyncIterator[bytes]:
        yield b"{"
        yield b"}"

    chunked = await client.post("/v1/things/a/do", content=parts(), headers=JSON)

    assert (large.status_code, chunked.status_code) == (413, 200)


async def test_a_request_that_waits_for_its_answer_when_the_service_stops_gets_it_on_a_connection_that_closes() -> None:
    held = asyncio.Event()
    answered: asyncio.Future[DirectAnswer] = asyncio.get_running_loop().create_future()

    def hold(name: str, headers: Headers, body: bytes) -> asyncio.Future[DirectAnswer]:
        held.set()
        return answered

    endpoint = HttpEndpoint("example", Settings(), router, direct=[DirectRoute("/v1/things/", "/do", answer, hold)])
    async with run_until_exit(Service("example", Settings(), endpoints=[endpoint])):
        reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        writer.write(request(b"a"))
        await asyncio.wait_for(held.wait(), 10)
        stopping = asyncio.ensure_future(endpoint.drain())
        async with asyncio.timeout(10):
            while await accepts(endpoint.port):
                await asyncio.sleep(0)
        answered.set_result(DirectAnswer(b'{"by":"direct"}'))
        whole = await asyncio.wait_for(reader.read(), 10)
        await stopping
        writer.close()

    assert whole.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in whole
    assert whole.endswith(b'{"by":"direct"}')


async def test_a_client_that_leaves_before_its_answer_costs_nothing() -> None:
    answers = [asyncio.get_running_loop().create_future() for _ in range(2)]
    waiting, held = list(answers), asyncio.Event()

    def hold(name: str, headers: Headers, body: bytes) -> asyncio.Future[DirectAnswer]:
        held.set()
        return waiting.pop(0)

    endpoint = HttpEndpoint("example", Settings(), router, direct=[DirectRoute("/v1/things/", "/do", answer, hold)])
    async with run_until_exit(Service("example", Settings(), endpoints=[endpoint])):
        _, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
        writer.write(request(b"a"))
        await asyncio.wait_for(held.wait(), 10)
        writer.transport.abort()
        answers[0].set_exception(InputRejected("nobody reads it"))
        answers[1].set_result(DirectAnswer(b'{"by":"direct"}'))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{endpoint.port}") as http:
            second = await http.post("/v1/things/a/do", content=b"{}", headers=JSON)

    assert second.json() == {"by": "direct"}


def request(name: bytes, more: bytes = b"", body: bytes = b"{}") -> bytes:
    """A request with keep-alive, unless `more` headers say otherwise."""
    head = b"POST /v1/things/%b/do HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n%b" % (name, more)
    return b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


LAST = request(b"a", b"connection: close\r\n")


async def sent(client: httpx.AsyncClient, *parts: bytes) -> bytes:
    """All that one connection answers to these bytes, each sent as a packet of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0)
    whole = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return whole
