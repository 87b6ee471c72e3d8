"""However many resources there are, Everloop gets few requests, and none at once while it is away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from tests.operator.builders import listed

from everloop import AsyncEverloop
from everloop.local.ports import free_port
from everloop_operator.errors import Refused, Unavailable
from everloop_operator.installation import MAX_AT_ONCE, Installation

LOOPS = [f"loop-{i}" for i in range(1000)]
REFUSAL = {"title": "Invalid", "detail": "task: is missing", "errors": [{"field": "task", "error": "is missing"}]}


@dataclass
class Registry:
    """A server that answers as the registry does, and counts."""

    url: str
    asked: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked[f"{request.method} {request.path}"] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)  # so that requests meet
        self.at_once -= 1
        if request.path == "/v1/loops":
            return web.json_response({"loops": [listed(loop=name) for name in LOOPS]})
        if request.path.endswith("/refused"):
            return web.json_response(REFUSAL, status=422)
        if request.path.endswith("/secret"):
            return web.json_response({"title": "Forbidden", "detail": "needs the role engineer"}, status=403)
        return web.json_response(listed(champion={"version": "0"}))


@pytest.fixture
async def registry(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registry]:
    port = free_port()
    given = Registry(f"http://127.0.0.1:{port}")
    monkeypatch.setenv("EVERLOOP_REGISTRY_URL", given.url)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", given.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield given
    await runner.cleanup()


def installation(now: list[float]) -> Installation:
    return Installation(AsyncEverloop(retry_for=0), poll_s=15.0, clock=lambda: now[0])


async def test_a_thousand_resources_ask_for_the_list_once_in_a_while(registry: Registry) -> None:
    now = [0.0]
    asking = installation(now)

    answers = await asyncio.gather(*(asking.listed() for _ in LOOPS))
    now[0] = 15.0
    await asyncio.gather(*(asking.listed() for _ in LOOPS))

    assert all(answer.keys() == set(LOOPS) for answer in answers)
    assert registry.asked == {"GET /v1/loops": 2}


async def test_few_specs_are_applied_at_once_and_are_listed_without_asking_again(registry: Registry) -> None:
    asking = installation([0.0])
    await asking.listed()

    revisions = await asyncio.gather(*(asking.apply(f"new-{i}", b"{}") for i in range(40)))

    assert set(revisions) == {4}
    assert registry.most_at_once <= MAX_AT_ONCE
    assert (await asking.listed())["new-7"] == listed()
    assert registry.asked["GET /v1/loops"] == 1


async def test_a_service_that_is_away_is_asked_once_for_all_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLOOP_REGISTRY_URL", f"http://127.0.0.1:{free_port()}")
    now, tried = [0.0], list[Any]()
    client = AsyncEverloop(retry_for=0.0)
    asking = Installation(client, poll_s=15.0, clock=lambda: now[0])
    original = client.request

    async def counted(*args: Any, **kwargs: Any) -> Any:
        tried.append(args)
        return await original(*args, **kwargs)

    monkeypatch.setattr(client, "request", counted)

    told = await asyncio.gather(*(asking.listed() for _ in LOOPS), return_exceptions=True)
    now[0] = 15.0
    await asyncio.gather(*(asking.listed() for _ in LOOPS), return_exceptions=True)

    assert {type(each) for each in told} == {Unavailable}
    assert {each.reason for each in told if isinstance(each, Unavailable)} == {"EverloopUnreachable"}
    assert len(tried) == 2


async def test_a_refusal_has_its_fields_and_a_missing_right_is_no_refusal(registry: Registry) -> None:
    asking = installation([0.0])

    with pytest.raises(Refused) as refused:
        await asking.apply("refused", b"{}")
    with pytest.raises(Unavailable) as forbidden:
        await asking.apply("secret", b"{}")

    assert refused.value.errors == (("task", "is missing"),)
    assert forbidden.value.reason == "NotAllowed"
    assert "needs the role engineer" in str(forbidden.value)
