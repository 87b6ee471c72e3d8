"""Endpoints that answer before the framework: the same answers, and everything else is left to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, Request
from tests.builders.running import run_until_exit

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


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that listens on a socket."""
    endpoint = HttpEndpoint("example", Settings(), router, direct=[DirectRoute("/v1/things/", "/do", answer)])
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

    assert [a.status_code for a in answers] == [421, 403, 415, 405]


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
