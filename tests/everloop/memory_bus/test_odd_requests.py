"""Odd requests to every route that the six OpenAPI documents name: refused or answered, never "something broke"."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from tests.builders.running import until
from tests.everloop.memory_bus.six_services import ask, installation
from tests.http_apps import http_app

from everloop.memory_bus.app import run
from everloop_shared.messaging.memory import MemoryBroker

GOOD = {"loop": "good", "task": "binary", "schema": {"x": {"type": "number"}}}
NINES = "9" * 400
VALUES = [
    *("", " ", "0", "-1", "é", "🐘", "..", "a/b", "*", "null", "NaN", "good", "a-0@1", "x" * 3000, NINES),
    *("1e999", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "2024-01-01T00:00:00Z", "true"),
]
RAW = ["%00", "%ff", "%ed%a0%80", "%0a", "%", "%zz", "%F0%9F%90%98"]
VALUES = [
    *('"\\ud800"', '"a\\u0000b"', '"\\u0007"', '""', '" "', "null", "[]", "{}", "true", "7", "-1", "1e999", NINES),
    *(f'"{"x" * 5000}"', '"é"', '"0"', '"../.."', "[[[[]]]]", '{"a": {"a": {}}}', "NaN", "0.1", '"2024-01-01"'),
]
KEYS = ["reason", "key", "to", "id", "data", "label", "correct", "entity", "time", "loop", "\\ud800", "x", "inputs"]
BODIES = ["", "[", '"', "[" * 50_000, "\ufeff{}", "{}", "[]", "null", "\x00", "id,x\n1,2\n", "a: [", "7" * 5000]
TYPES = [
    "application/json",
    "application/yaml",
    "text/csv",
    "application/x-ndjson",
    "",
    "a/b; charset=\xff",
    "x" * 3000,
]
HEALTH = ("/livez", "/readyz", "/metrics")
EACH = 40


def bodies(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """A content type and a body; at first those that are nearly right."""
    while True:
        if rng.random() < 0.7:
            pairs = (f'"{key}": {rng.choice(VALUES)}' for key in rng.sample(KEYS, rng.randint(1, 4)))
            text = "{" + ", ".join(pairs) + "}"
            text = rng.choice([text, f"[{text}]", f"{text}\n{text}"])
        else:
            text = rng.choice([*BODIES, *VALUES])
        kind = "application/json" if rng.random() < 0.7 else rng.choice(TYPES)
        yield kind, text.encode(errors="replace") if rng.random() < 0.9 else b"\xff\xfe" + text.encode(errors="replace")


def address(rng: random.Random, path: str, queries: list[str]) -> str:
    """A path with odd values in its places, and odd queries."""
    while "{" in path:
        before, _, rest = path.partition("{")
        name, _, after = rest.partition("}")
        odd = rng.choice([quote(w, safe="") for w in VALUES] + RAW)
        path = before + ("good" if name == "loop" and rng.random() < 0.7 else odd) + after
    asked = [f"{q}={rng.choice([quote(w) for w in VALUES] + RAW)}" for q in queries if rng.random() < 0.8]
    return path + ("?" + "&".join(asked) if asked else "")


@pytest.mark.app
@pytest.mark.timeout(180)
async def test_no_request_to_any_route_breaks_a_service(tmp_path: Path) -> None:
    services, stop, rng = installation(MemoryBroker(), tmp_path), asyncio.Event(), random.Random(7)
    running = asyncio.create_task(run(list(services.values()), stop))
    broken, asked, odd = [], 0, bodies(rng)
    try:
        await until(lambda: running.done() or not any(s.not_ready() for s in services.values()), 30)
        assert (await ask(services, "registry", "PUT", "/v1/loops/good", json=GOOD)).status_code == 201
        for service in reversed(services.values()):  # the registry last: a request may delete the loop
            app = http_app(service)
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                for path, methods in app.openapi()["paths"].items():
                    for method, of in () if path in HEALTH else methods.items():
                        queries = [p["name"] for p in of.get("parameters", ()) if p["in"] == "query"]
                        for _ in range(EACH):
                            kind, body = next(odd) if method in ("post", "put") else ("", b"")
                            where = address(rng, path, queries)
                            headers = [(b"content-type", kind.encode("latin-1"))] if kind else []
                            answer = await client.request(method, where, content=body or None, headers=headers)
                            asked += 1
                            long = answer.status_code >= 400 and len(answer.content) > 64_000
                            if answer.status_code >= 500 or long:
                                broken.append((service.name, method, where[:80], body[:80], answer.status_code))

        assert broken == []
        assert asked > 15 * EACH
        assert not running.done()
    finally:
        stop.set()
        await asyncio.wait([running])
    running.result()
