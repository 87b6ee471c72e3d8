"""What every HTTP endpoint does: problem details, limits, trace context."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, Request
from tests.engines.buses import until
from tests.http_apps import http_app

from everloop.local.ports import free_port
from everloop_shared.errors import FieldError, InputRejected, Overloaded
from everloop_shared.http import HttpEndpoint, read_body
from everloop_shared.http.guard import RequestGuard
from everloop_shared.http.problems import raw_problem
from everloop_shared.logging import JsonFormatter
from everloop_shared.service import Service
from everloop_shared.settings import Settings
from everloop_shared.tracing import current_traceparent, traced

pytestmark = pytest.mark.app

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
JSON = {"content-type": "application/json"}
router = APIRouter()


@router.post("/body")
async def body(request: Request) -> int:
    """The length of the body, up to 10 bytes."""
    return len(await read_body(request, 10))


@router.get("/fails/{how}")
async def fails(how: str) -> None:
    """Raises what the path says."""
    raise {
        "rejected": InputRejected("no good", [FieldError("a.b", "must be a number")]),
        "overloaded": Overloaded("full"),
    }.get(how, ValueError("secret"))


WAITING = asyncio.Event()


@router.get("/waits")
async def waits() -> None:
    """Waits until it is cancelled."""
    WAITING.set()
    await asyncio.Event().wait()


@router.get("/trace")
async def trace() -> str | None:
    """The trace context of the request."""
    return current_traceparent()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client inside the process."""
    app = http_app(Service("ingest", Settings(), [HttpEndpoint("ingest", Settings(), router)]))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as opened:
        yield opened


async def test_an_error_is_problem_details_with_its_fields(client: httpx.AsyncClient) -> None:
    answer = await client.get("/fails/rejected")

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"] == [{"field": "a.b", "error": "must be a number"}]
    assert answer.json()["code"] == "input_rejected"


async def test_overload_names_the_seconds_until_a_retry(client: httpx.AsyncClient) -> None:
    answer = await client.get("/fails/overloaded")

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


async def test_a_request_that_outlasts_the_drain_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everloop_shared.http.endpoint.REQUEST_DRAIN_S", 1)
    port, stop = free_port(), asyncio.Event()
    settings = Settings(data=tmp_path, port=port)
    service = Service("ingest", settings, [HttpEndpoint("ingest", settings, router)])
    running = asyncio.create_task(service.run(stop))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
        await until(lambda: service.not_ready() is None)
        asked = asyncio.create_task(client.get("/waits"))
        await asyncio.wait_for(WAITING.wait(), 10)

        stop.set()
        answer = await asked
        await running

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_the_reason_of_a_crash_is_only_in_the_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await client.get("/fails/crash")

    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "secret" in caplog.text


async def test_an_unknown_path_is_answered_with_problem_details(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nowhere")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_body_over_the_limit_is_refused_declared_or_not(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"12345"

    assert (await client.post("/body", content=b"x" * 10, headers=JSON)).json() == 10
    assert (await client.post("/body", content=b"x" * 11, headers=JSON)).status_code == 413
    assert (await client.post("/body", content=chunks(), headers=JSON)).status_code == 413


@pytest.mark.parametrize(
    "header", [None, "nonsense", TRACE.replace("00-", "ff-"), f"00-{'0' * 32}-b7ad6b7169203331-01"]
)
async def test_a_request_without_a_valid_trace_gets_a_new_one(client: httpx.AsyncClient, header: str | None) -> None:
    answer = await client.get("/trace", headers={"traceparent": header} if header else {})

    assert answer.json() != header
    assert len(answer.json()) == len(TRACE)


async def test_a_valid_trace_is_kept(client: httpx.AsyncClient) -> None:
    assert (await client.get("/trace", headers={"traceparent": TRACE})).json() == TRACE
    assert current_traceparent() is None


async def test_too_many_requests_at_once_are_429() -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def slow(scope: object, receive: object, send: object) -> None:
        entered.set()
        await gate.wait()

    app = RequestGuard(slow, "ingest", Settings(), lambda path: ["GET"], max_requests=1)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        first = asyncio.create_task(client.get("/a"))
        await entered.wait()
        second = await client.get("/b")
        gate.set()
        await asyncio.gather(first, return_exceptions=True)

    assert (second.status_code, second.headers["retry-after"]) == (429, "1")


def test_a_log_line_has_the_fields_of_the_current_task() -> None:
    record = logging.makeLogRecord({"msg": "done", "levelname": "INFO", "name": "x", "extra_field": 1})

    with traced(TRACE, loop="electricity", id="e1"):
        line = JsonFormatter("ingest").format(record)

    for part in (
        '"loop": "electricity"',
        '"id": "e1"',
        '"trace": "0af7651916cd43dd8448eb211c80319c"',
        '"extra_field": 1',
    ):
        assert part in line


@pytest.mark.parametrize(("member", "kind"), [(None, b"application/problem+json"), ("error", b"application/json")])
def test_a_refusal_that_no_application_sees_has_its_text_where_the_client_reads_it(
    member: str | None, kind: bytes
) -> None:
    head, _, body = raw_problem(431, "the headers are too long", member).partition(b"\r\n\r\n")

    assert b"content-type: %b\r\n" % kind in head
    assert b"content-length: %d\r\n" % len(body) in head
    assert json.loads(body)[member or "detail"] == "the headers are too long"
