"""The load generator of the REST figures, against a server that says yes."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from tests.bench.rest import PATH, generating

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


async def say_yes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request of a connection."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            writer.write(ANSWER)
            await writer.drain()
    except asyncio.IncompleteReadError:
        writer.close()


@pytest.mark.parametrize("count", [20, 0])
async def test_a_load_generator_is_ended_without_taking_its_exit_status_from_asyncio(
    count: int, caplog: pytest.LogCaptureFixture
) -> None:
    server = await asyncio.start_server(say_yes, "127.0.0.1", 0)
    subject: Any = SimpleNamespace(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    async with server:
        with caplog.at_level(logging.WARNING, "asyncio"):
            async with generating(subject, PATH, 1, count, [b'{"data": {}}']) as process:
                assert process.stdout is not None
                answered = json.loads(await process.stdout.read()) if count else {}

    assert len(answered.get("latencies_us", [])) == count
    assert process.returncode == 0 if count else process.returncode != 255
    assert "Unknown child process" not in caplog.text
