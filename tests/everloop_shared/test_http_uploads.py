"""Bodies that a route streams to disk: their limits, and what is left of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from tests.http_apps import http_app

from everloop_shared.http import HttpEndpoint
from everloop_shared.http.uploads import MAX_UPLOADS, Upload, UploadFolder
from everloop_shared.service import Service
from everloop_shared.settings import Settings

pytestmark = pytest.mark.app
FILE = {"content-type": "application/x-file"}
LIMIT = 3_000_000
SETTINGS = Settings(max_body_bytes=1_000, body_timeout_s=0.2)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service with one upload, inside the process."""
    router, folder = APIRouter(), UploadFolder(tmp_path / "uploads", SETTINGS)

    @router.put("/files/{name}")
    async def put_file(name: str, request: Request) -> dict[str, Any]:
        """Receives a file."""
        async with folder.receive(request, LIMIT) as received:
            data = received.file.read()
            return {"size": received.size, "sha256": received.sha256, "same": sha256(data).hexdigest()}

    upload = Upload("PUT", re.compile("/files/[a-z]+"), frozenset({b"application/x-file"}))
    endpoint = HttpEndpoint("ingest", SETTINGS, router, uploads=[upload])
    transport = httpx.ASGITransport(http_app(Service("ingest", SETTINGS, [endpoint])), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as opened:
        yield opened


async def test_a_file_larger_than_any_body_arrives_whole_and_leaves_nothing(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 10_000

    answer = await client.put("/files/a", content=data, headers=FILE)

    digest = sha256(data).hexdigest()
    assert answer.json() == {"size": len(data), "sha256": digest, "same": digest}
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_a_file_over_the_limit_is_413_declared_or_not(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * 1_000_000

    declared = await client.put("/files/a", content=b"x" * (LIMIT + 1), headers=FILE)
    streamed = await client.put("/files/a", content=chunks(), headers=FILE)

    assert [declared.status_code, streamed.status_code] == [413, 413]
    assert "3,000,000 bytes" in streamed.json()["detail"]


async def test_another_content_type_or_encoding_is_415_and_names_what_is_read(client: httpx.AsyncClient) -> None:
    typed = await client.put("/files/a", content=b"x", headers={"content-type": "application/json"})
    encoded = await client.put("/files/a", content=b"x", headers={**FILE, "content-encoding": "gzip"})

    assert [typed.status_code, encoded.status_code] == [415, 415]
    assert "application/x-file" in typed.json()["detail"]


async def test_a_file_that_arrives_too_slowly_is_408(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    answer = await client.put("/files/a", content=chunks(), headers=FILE)

    assert answer.status_code == 408


async def test_more_files_at_once_than_the_limit_are_429(client: httpx.AsyncClient) -> None:
    begun, end = asyncio.Semaphore(0), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 10_000  # may take two more seconds
        begun.release()
        await end.wait()

    waiting = [
        asyncio.ensure_future(client.put("/files/a", content=chunks(), headers=FILE)) for _ in range(MAX_UPLOADS)
    ]
    for _ in waiting:
        await begun.acquire()
    refused = await client.put("/files/a", content=b"x", headers=FILE)
    end.set()

    assert refused.status_code == 429
    assert [(await answer).status_code for answer in waiting] == [200] * MAX_UPLOADS
