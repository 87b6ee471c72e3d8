"""Request bodies: decompressed within limits, decoded strictly; other encodings are refused."""

from __future__ import annotations

import gzip
import random
import zlib
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from tests.http_apps import http_app

from everloop_shared.http import HttpEndpoint
from everloop_shared.http.json_body import command_body, json_body
from everloop_shared.service import Service
from everloop_shared.settings import Settings

LIMIT = 10_000
GOOD = b'{"reason":"why"}'
JSON = {"content-type": "application/json"}
router = APIRouter()
pytestmark = pytest.mark.app


class ExampleCommand(BaseModel):
    """A command with a default."""

    model_config = ConfigDict(extra="forbid")
    reason: str = "none given"


@router.post("/json")
async def read(request: Request) -> Any:
    """The body, up to 1,000 bytes."""
    return await json_body(request, 1_000)


@router.post("/command")
async def command(request: Request) -> ExampleCommand:
    """The command."""
    return await command_body(ExampleCommand, request, 1_000, required=False)


def json_client() -> httpx.AsyncClient:
    """A client of a service that reads bodies of at most LIMIT bytes."""
    settings = Settings(max_body_bytes=LIMIT)
    app = http_app(Service("ingest", settings, [HttpEndpoint("ingest", settings, router)]))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=JSON)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (GOOD, {}),
        (b"\xef\xbb\xbf" + GOOD, {}),
        (GOOD, {"content-type": "application/vnd.shop+json; charset=utf-8"}),
        (GOOD, {"content-encoding": "identity"}),
        (gzip.compress(GOOD, mtime=0), {"content-encoding": "gzip"}),
        (gzip.compress(GOOD[:5], mtime=0) + gzip.compress(GOOD[5:], mtime=0), {"content-encoding": "GZIP"}),
        (zlib.compress(GOOD), {"content-encoding": "deflate"}),
        (zlib.compress(GOOD, wbits=-15), {"content-encoding": "deflate"}),
    ],
)
async def test_json_is_read_plain_or_compressed(body: bytes, headers: dict[str, str]) -> None:
    async with json_client() as client:
        answer = await client.post("/json", content=body, headers=headers)

    assert (answer.status_code, answer.json()) == (200, {"reason": "why"})


@pytest.mark.parametrize(
    ("body", "headers", "status", "expected"),
    [
        (b'{"reason":"a","reason":"b"}', {}, 400, "'reason' is there twice"),
        (gzip.compress(b'{"a":"' + b"x" * 500_000 + b'"}', mtime=0), {"content-encoding": "gzip"}, 413, "decompressed"),
        (gzip.compress(GOOD, mtime=0)[:-4], {"content-encoding": "gzip"}, 400, "too early"),
        (gzip.compress(b"", mtime=0) * 400, {"content-encoding": "gzip"}, 400, "more than 100 members"),
        (GOOD, {"content-encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(GOOD, mtime=0) + b"garbage", {"content-encoding": "gzip"}, 400, "not gzip"),
        (
            gzip.compress(random.Random(1).randbytes(9_000), mtime=0),
            {"content-encoding": "gzip"},
            413,
            "over 1,000 bytes",
        ),
        (zlib.compress(GOOD) + b"garbage", {"content-encoding": "deflate"}, 400, "7 bytes follow"),
        (zlib.compress(b'{"a":"' + b"x" * 500_000 + b'"}'), {"content-encoding": "deflate"}, 413, "decompressed"),
        (b"\xff\xff", {"content-encoding": "deflate"}, 400, "not deflate"),
        (GOOD, {"content-encoding": "br"}, 415, "br"),
        (GOOD, {"content-encoding": "gzip, gzip"}, 415, "gzip, gzip"),
        (GOOD, {"content-type": "text/csv"}, 415, "text/csv"),
        (b"1" * 1_001, {}, 413, "1,000"),
    ],
)
async def test_a_refused_body_names_the_reason(
    body: bytes, headers: dict[str, str], status: int, expected: str
) -> None:
    async with json_client() as client:
        answer = await client.post("/json", content=body, headers=headers)

    assert answer.status_code == status
    assert expected in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b"", 200, {"reason": "none given"}),
        (GOOD, 200, {"reason": "why"}),
        (b'{"reason":"a","reason":"b"}', 400, "twice"),
        (b'{"reason":NaN}', 400, "RFC 8259"),
        (b'{"reason":7}', 422, "reason: "),
        (b'{"cause":"x"}', 422, "cause: "),
    ],
)
async def test_a_command_may_be_empty_and_is_read_as_strictly_otherwise(
    body: bytes, status: int, expected: Any
) -> None:
    async with json_client() as client:
        answer = await client.post("/command", content=body)

    assert answer.status_code == status
    assert answer.json() == expected if status == 200 else expected in answer.json()["detail"]
