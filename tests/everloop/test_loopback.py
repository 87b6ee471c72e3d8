"""Connections of the async client to this machine: which are kept, and which failures they survive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from everloop.loopback import LoopbackTransport

ANSWER = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}"
Answer = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


@asynccontextmanager
async def served(answer: Answer) -> AsyncIterator[tuple[httpx.AsyncClient, list[int]]]:
    """A client, and the number of requests of each connection to a server that answers every request so."""
    requests: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = len(requests)
        requests.append(0)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                requests[connection] += 1
                await answer(writer, sum(requests))
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    mounts = {"http://127.0.0.1": LoopbackTransport()}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", mounts=mounts, timeout=5.0) as client:
        yield client, requests
    server.close()


async def _accept(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(ANSWER)


async def test_one_connection_carries_request_after_request_and_more_carry_them_at_once() -> None:
    async with served(_accept) as (client, requests):
        for _ in range(3):
            await client.post("/v1", content=b"x" * 200_000)
        in_turn = list(requests)
        answers = await asyncio.gather(*(client.post("/v1", content=b"x") for _ in range(4)))

    assert in_turn == [3]
    assert len(requests) <= 4
    assert [(a.status_code, a.json()) for a in answers] == [(202, {})] * 4


async def test_a_connection_that_the_server_closed_while_idle_is_replaced() -> None:
    async def close_after(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(ANSWER)
        writer.close()

    async with served(close_after) as (client, requests):
        answers = [await client.post("/v1", content=b"x") for _ in range(3)]

    assert [a.status_code for a in answers] == [202] * 3
    assert requests == [1, 1, 1]


async def test_an_answer_in_chunks_is_read_whole() -> None:
    async def chunked(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.write(b"2\r\nde\r\n0\r\n\r\n")

    async with served(chunked) as (client, requests):
        answers = [await client.post("/v1", content=b"x") for _ in range(2)]

    assert [a.content for a in answers] == [b"abcde"] * 2
    assert requests == [2]


async def _refuse_to_speak_http(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(b"SSH-2.0\r\n\r\n")


async def _cut_off(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(ANSWER[:-1])
    writer.close()


async def _say_nothing(writer: asyncio.StreamWriter, number: int) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_refuse_to_speak_http, httpx.RemoteProtocolError),
        (_cut_off, httpx.RemoteProtocolError),
        (_say_nothing, httpx.ReadTimeout),
    ],
)
async def test_a_failure_is_an_error_of_the_transport(answer: Answer, error: type[Exception]) -> None:
    async with served(answer) as (client, _):
        with pytest.raises(error):
            await client.post("/v1", content=b"x", timeout=0.2)


async def test_nobody_listening_is_an_error_of_the_connection() -> None:
    async with served(_accept) as (client, _):
        url = client.base_url
    async with httpx.AsyncClient(mounts={"http://127.0.0.1": LoopbackTransport()}) as client:
        with pytest.raises(httpx.ConnectError):
            await client.post(url, content=b"x")
