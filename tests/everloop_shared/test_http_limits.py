"""Limits of callers at the door: who asks too much is told so, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from prometheus_client import REGISTRY
from tests.access import add_key, bearer
from tests.builders.running import run_until_exit
from tests.engines.buses import until

from everloop_shared.access.limits import Limits, take_rows
from everloop_shared.http import HttpEndpoint
from everloop_shared.http.direct import DirectAnswer, DirectRoute, Headers, ImmediateAnswer
from everloop_shared.service import Service
from everloop_shared.settings import Settings

pytestmark = pytest.mark.app
JSON = {"content-type": "application/json"}
PATH = "/v1/loops/churn/predict"
router = APIRouter()
Client = Callable[..., httpx.AsyncClient]


@router.post("/v1/loops/{loop}/predict")
async def predict(loop: str, request: Request) -> dict[str, str]:
    """The framework's route."""
    take_rows(len(await request.body()))
    return {"by": "framework"}


async def answer(name: str, headers: Headers, body: bytes) -> DirectAnswer | None:
    """The direct route, with as many rows as bytes; declines `declined`."""
    if body.startswith(b'"declined'):
        return None
    take_rows(len(body))
    return DirectAnswer(b"{}")


def answer_at_once(name: str, headers: Headers, body: bytes) -> DirectAnswer | None:
    """The same at once."""
    if body.startswith(b'"declined'):
        return None
    take_rows(len(body))
    return DirectAnswer(b"{}")


RELEASED: list[asyncio.Event] = []


def answer_later(name: str, headers: Headers, body: bytes) -> asyncio.Future[DirectAnswer] | None:
    """The same once the test releases it."""
    if body.startswith(b'"declined'):
        return None
    take_rows(len(body))
    return asyncio.ensure_future(_released())


async def _released() -> DirectAnswer:
    await RELEASED[-1].wait()
    return DirectAnswer(b"{}")


WAYS = {"at once": answer_at_once, "later": answer_later, "by a task": None}


@asynccontextmanager
async def served(way: ImmediateAnswer | None = None, **settings: Any) -> AsyncIterator[Client]:
    """A service with these settings; gives a function that makes a client with an address of its own."""
    RELEASED[:] = [asyncio.Event()]
    own = Settings(**settings)
    route = DirectRoute("/v1/loops/", "/predict", answer, way)
    endpoint = HttpEndpoint("serving", own, router, direct=[route])
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(run_until_exit(Service("serving", own, endpoints=[endpoint])))
        clients = []

        def client(address: str = "127.0.0.1", token: str | None = None) -> httpx.AsyncClient:
            made = httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{endpoint.port}",
                transport=httpx.AsyncHTTPTransport(local_address=address),
                headers=JSON | (bearer(token) if token else {}),
            )
            clients.append(made)
            return made

        try:
            yield client
        finally:
            RELEASED[-1].set()
            for each in clients:
                await each.aclose()


async def statuses(client: httpx.AsyncClient, count: int, content: bytes = b"{}") -> list[int]:
    return [(await client.post(PATH, content=content)).status_code for _ in range(count)]


def counted(limit: str) -> float:
    labels = {"service": "serving", "limit": limit}
    return REGISTRY.get_sample_value("everloop_limited_requests_total", labels) or 0.0


@pytest.mark.parametrize("way", WAYS)
async def test_one_address_is_refused_with_the_limit_and_the_time_while_another_is_answered(way: str) -> None:
    before = counted("requests_per_s")
    async with served(WAYS[way], limit_requests_per_s=0.1, limit_burst_s=30) as client:
        RELEASED[-1].set()
        noisy, other = client("127.0.0.1"), client("127.0.0.2")
        passed = await statuses(noisy, 3)
        refused = await noisy.post(PATH, content=b"{}")
        again = await statuses(noisy, 2)
        neighbour = await statuses(other, 3)

    assert (passed, again, neighbour) == ([200] * 3, [429] * 2, [200] * 3)
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.headers["retry-after"]) <= 10
    assert refused.json()["code"] == "caller_limited"
    assert refused.json()["errors"] == [{"field": "requests_per_s", "error": "at most 0.1 requests per second"}]
    assert counted("requests_per_s") - before == 3


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_declined_counts_once(way: str) -> None:
    async with served(WAYS[way], limit_requests_per_s=0.001, limit_burst_s=2_000) as client:
        RELEASED[-1].set()
        found = await statuses(client(), 3, b'"declined"')

    assert found == [200, 200, 429]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("limit", ["rows_per_s", "bytes_per_s"])
async def test_rows_and_bytes_are_counted_when_they_are_known(way: str, limit: str) -> None:
    async with served(WAYS[way], **{f"limit_{limit}": 1, "limit_burst_s": 100}) as client:
        RELEASED[-1].set()
        noisy = client()
        found = await statuses(noisy, 3, b'"' + b"x" * 70 + b'"')
        other = await statuses(client("127.0.0.2"), 1)

    assert found == [200, 200, 429]
    assert other == [200]


@pytest.mark.parametrize("content", [b"{}", b'"declined"'])
async def test_requests_in_progress_are_counted_per_caller(content: bytes) -> None:
    async with served(answer_later, limit_in_progress=2) as client:
        noisy, other = client(), client("127.0.0.2")
        waiting = [asyncio.ensure_future(noisy.post(PATH, content=b"{}")) for _ in range(2)]

        async def is_full() -> bool:
            return (await noisy.post(PATH, content=b'"declined"')).status_code == 429

        await until(is_full)
        refused = await noisy.post(PATH, content=content)
        neighbour = (await other.post(PATH, content=b'"declined"')).status_code
        RELEASED[-1].set()
        answered = [(await each).status_code for each in waiting]
        after = (await noisy.post(PATH, content=content)).status_code

    assert refused.json()["errors"][0]["field"] == "in_progress"
    assert (neighbour, answered, after) == (200, [200, 200], 200)


@pytest.mark.parametrize("way", WAYS)
async def test_a_key_is_a_caller_wherever_it_comes_from_and_may_have_limits_of_its_own(
    way: str, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    noisy = add_key(file, "noisy", "predictor", limits=Limits(requests_per_s=1))
    calm = add_key(file, "calm", "predictor")
    settings = {"auth": "on", "auth_keys": file, "limit_burst_s": 2, "limit_requests_per_s": 100}

    async with served(WAYS[way], **settings) as client:
        RELEASED[-1].set()
        first = await statuses(client("127.0.0.1", noisy), 2)
        elsewhere = await client("127.0.0.2", noisy).post(PATH, content=b"{}")
        neighbour = await statuses(client("127.0.0.1", calm), 5)

    assert (first, elsewhere.status_code, neighbour) == ([200, 200], 429, [200] * 5)
    assert "key noisy" in elsewhere.json()["detail"]


async def test_who_is_not_let_in_is_limited_by_address(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    token = add_key(file, "calm", "predictor")

    async with served(answer_at_once, auth="on", auth_keys=file, limit_requests_per_s=0.5, limit_burst_s=4) as client:
        guesses = await statuses(client(token="evl_0123456789_00"), 3)
        nobody = await statuses(client(), 1)
        wrong_host = (await client().post(PATH, content=b"{}", headers={"host": "evil.example"})).status_code
        calm = await statuses(client(token=token), 1)

    assert guesses == [401, 401, 429]
    assert (nobody, wrong_host) == ([429], 429)
    assert calm == [200], "who has a key does not share in what others of the address do"


async def test_probes_are_not_limited() -> None:
    async with served(limit_requests_per_s=0.001, limit_burst_s=1) as client:
        one = client()
        found = [(await one.get("/livez")).status_code for _ in range(5)]
        metrics = [(await one.get("/metrics")).status_code for _ in range(2)]

    assert found == [200] * 5
    assert metrics == [200, 429]
