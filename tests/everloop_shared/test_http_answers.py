"""What HTTP clients expect of every service: HEAD, Allow, gzip, OpenMetrics, request ids, pages of named origins."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from tests.builders.running import run_until_exit
from tests.http_apps import http_app

from everloop.memory_bus.app import build
from everloop_schemas.topology import SERVICES
from everloop_shared.errors import Misconfigured
from everloop_shared.http import HttpEndpoint
from everloop_shared.http.direct import DirectAnswer, DirectRoute, Headers
from everloop_shared.http.exposition import prefers_openmetrics
from everloop_shared.http.whole_answers import accepts_gzip
from everloop_shared.logging import JsonFormatter
from everloop_shared.service import Service
from everloop_shared.settings import Settings

pytestmark = pytest.mark.app

OWN = "http://127.0.0.1:8000"
PAGE = "https://shop.example"
JSON = {"content-type": "application/json"}
COMMON = ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json")


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FastAPI]:
    """The seven applications of a local installation, built and not started."""
    folder: Path = tmp_path_factory.mktemp("installation")
    ports = dict.fromkeys([*SERVICES, "topics"], 0)
    return {service.name: http_app(service) for service in build(folder, ports, {})}


def ask(
    app: FastAPI, method: str, path: str, headers: Mapping[str, str] = {}, body: bytes | None = None
) -> httpx.Response:
    """The response to a request with exactly these headers."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=OWN, headers={"accept-encoding": ""}) as client:
            return await client.request(method, path, headers=dict(headers), content=body)

    return asyncio.run(send())


def paths_of(app: FastAPI) -> dict[str, set[str]]:
    """Each documented address, with a name where it wants one, and its methods."""
    found: dict[str, set[str]] = {}
    for path, methods in app.openapi()["paths"].items():
        filled = "/".join("x" if part.startswith("{") else part for part in path.split("/"))
        found.setdefault(filled, set()).update(method.upper() for method in methods)
    return found


def test_head_is_answered_as_get_without_the_body(apps: dict[str, FastAPI]) -> None:
    for name, app in apps.items():
        pages = [path for path, methods in paths_of(app).items() if "GET" in methods and "status" not in path]
        for path in [*COMMON, *pages, *(["/"] if name == "monitoring" else [])]:
            get, head = ask(app, "GET", path), ask(app, "HEAD", path)
            assert (head.status_code, head.content) == (get.status_code, b""), f"{name} {path}"
            assert head.headers["content-type"] == get.headers["content-type"]
            assert path == "/metrics" or head.headers["content-length"] == get.headers["content-length"]


def test_405_names_every_method_of_the_address_before_anything_else_is_wrong(apps: dict[str, FastAPI]) -> None:
    for name, app in apps.items():
        for path, methods in paths_of(app).items():
            expected = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
            other = next(method for method in ("DELETE", "PATCH", "PUT") if method not in methods)

            answer = ask(app, other, path, {"content-type": "application/xml"}, b"<a/>")
            options = ask(app, "OPTIONS", path)

            assert answer.status_code == 405, f"{name} {other} {path}"
            assert set(answer.headers["allow"].split(", ")) == expected
            assert (options.status_code, options.content) == (204, b"")
            assert set(options.headers["allow"].split(", ")) == expected


def test_head_of_an_address_that_only_takes_post_is_405_without_a_body(apps: dict[str, FastAPI]) -> None:
    answer = ask(apps["ingest"], "HEAD", "/v1/loops/x/events")

    assert (answer.status_code, answer.content) == (405, b"")
    assert set(answer.headers["allow"].split(", ")) == {"POST", "OPTIONS"}


def test_an_unknown_address_is_404_whatever_is_sent_to_it(apps: dict[str, FastAPI]) -> None:
    for app in apps.values():
        for method, headers in (("GET", {}), ("POST", {"content-type": "application/xml"}), ("OPTIONS", {})):
            answer = ask(app, method, "/v1/nothing/here", headers, b"<a/>" if method == "POST" else None)
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
            assert {"title", "status", "detail", "request_id"} <= set(answer.json())


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("X-GZIP", True),
        ("*", True),
        ("gzip ; q=0.1 , identity;q=0", True),
        ("gzip;q=1.0, identity; q=0.5", True),
        ("", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("*;q=0, gzip;q=0", False),
        ("identity;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("gzipped", False),
        ("gzip;q=high", False),
        ("gzip;q=nan", False),
        ("deflate, br, zstd", False),
        (";;,,q=1", False),
    ],
)
def test_an_answer_is_compressed_for_clients_that_prefer_it(header: str, accepted: bool) -> None:
    assert accepts_gzip(header.encode()) is accepted


def test_long_answers_are_compressed_and_caches_are_told(apps: dict[str, FastAPI]) -> None:
    plain = ask(apps["ingest"], "GET", "/openapi.json")
    packed = ask(apps["ingest"], "GET", "/openapi.json", {"accept-encoding": "gzip"})
    head = ask(apps["ingest"], "HEAD", "/openapi.json", {"accept-encoding": "gzip"})
    short = ask(apps["ingest"], "GET", "/livez", {"accept-encoding": "gzip"})

    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == head.headers["content-encoding"] == "gzip"
    assert packed.json() == plain.json()
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) / 2
    assert head.headers["content-length"] == packed.headers["content-length"]
    assert "content-encoding" not in short.headers
    assert {a.headers["vary"] for a in (plain, packed, head, short)} == {"accept-encoding"}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.1", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3", True),
        ("Application/OpenMetrics-Text", True),
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("text/plain, application/openmetrics-text;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=much", False),
        ("application/openmetrics-text;version=9", False),
    ],
)
def test_openmetrics_is_for_clients_that_prefer_it(accept: str, expected: bool) -> None:
    assert prefers_openmetrics(accept) is expected


def test_metrics_are_readable_in_both_formats_and_tell_the_version(apps: dict[str, FastAPI]) -> None:
    plain = ask(apps["registry"], "GET", "/metrics", {"accept": "*/*"})
    openmetrics = ask(apps["registry"], "GET", "/metrics", {"accept": "application/openmetrics-text;version=1.0.0"})

    assert plain.headers["content-type"].startswith("text/plain")
    assert openmetrics.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert openmetrics.text.endswith("# EOF\n")
    parsed = text_string_to_metric_families(openmetrics.text)  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    [build_info] = families["everloop_build"].samples
    assert build_info.labels["version"] == version("everloop")
    assert "everloop_build_info{" in plain.text


def test_a_request_id_is_taken_over_or_made(apps: dict[str, FastAPI]) -> None:
    app = apps["registry"]

    sent = ask(app, "GET", "/v1/loops/none/nothing", {"x-request-id": "order-17/retry=2"})
    made = [ask(app, "GET", path) for path in ("/livez", "/v1/nothing", "/livez")]
    odd = ask(app, "GET", "/livez", {"x-request-id": "two words"})
    long = ask(app, "GET", "/livez", {"x-request-id": "x" * 129})

    assert sent.headers["x-request-id"] == sent.json()["request_id"] == "order-17/retry=2"
    ids = [answer.headers["x-request-id"] for answer in [*made, odd, long]]
    assert len(set(ids)) == 5
    assert all(len(each) == 32 for each in ids)
    assert made[1].json()["request_id"] == ids[1]


router = APIRouter()


@router.post("/v1/things/{name}/do")
async def do(name: str) -> dict[str, str]:
    """Fails as its name says."""
    if name == "fails":
        raise ValueError("secret")
    return {"by": "framework"}


async def answer(name: str, headers: Headers, body: bytes) -> DirectAnswer | None:
    """The direct route."""
    return None if name == "fails" else DirectAnswer(b'{"text":"%b"}' % (b"x" * 2_000))


def endpoint(settings: Settings) -> HttpEndpoint:
    """An endpoint with a direct route."""
    return HttpEndpoint("example", settings, router, direct=[DirectRoute("/v1/things/", "/do", answer)])


async def test_the_log_names_the_request(caplog: pytest.LogCaptureFixture) -> None:
    formatter = JsonFormatter("example")
    lines: list[dict[str, str]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(formatter.format(record)))

    handler, logger = Keep(), logging.getLogger("everloop_shared.http.problems")
    logger.addHandler(handler)
    try:
        started = endpoint(Settings())
        async with run_until_exit(Service("example", Settings(), [started])):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{started.port}") as client:
                named = await client.post(
                    "/v1/things/fails/do", content=b"{}", headers=JSON | {"x-request-id": "order-17"}
                )
                unnamed = await client.post("/v1/things/fails/do", content=b"{}", headers=JSON)
    finally:
        logger.removeHandler(handler)

    assert named.headers["x-request-id"] == lines[0]["request"] == "order-17"
    assert unnamed.headers["x-request-id"] == lines[1]["trace"]


async def test_a_direct_answer_has_a_request_id_and_a_time_and_gzip_where_nothing_else_is_accepted() -> None:
    started = endpoint(Settings())
    address = "/v1/things/a/do"
    async with run_until_exit(Service("example", Settings(), [started])):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{started.port}") as client:
            sent = JSON | {"x-request-id": "order-18"}
            packed = await client.post(address, content=b"{}", headers=sent | {"accept-encoding": "gzip"})
            usual = await client.post(address, content=b"{}", headers=JSON | {"accept-encoding": "gzip, deflate, br"})
            encoded = await client.post(
                address, content=gzip.compress(b"{}"), headers=JSON | {"content-encoding": "gzip"}
            )
            metrics = (await client.get("/metrics")).text

    assert packed.headers["x-request-id"] == "order-18"
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json() == usual.json() == encoded.json()
    assert "content-encoding" not in usual.headers
    assert len(usual.headers["x-request-id"]) == 32
    [count] = [
        line
        for line in metrics.splitlines()
        if line.startswith("everloop_http_answer_seconds_count{") and 'service="example"' in line
    ]
    assert 'endpoint="do"' in count
    assert float(count.rpartition(" ")[2]) >= 3


def app_for(origins: str) -> FastAPI:
    """An application that pages of these origins may use."""
    settings = Settings(cors_origins=origins)
    return http_app(Service("example", settings, [endpoint(settings)]))


def test_a_page_of_a_named_origin_may_ask_and_change(apps: dict[str, FastAPI]) -> None:
    app, page = app_for(f"https://other.example:8443, {PAGE}"), {"origin": PAGE, "sec-fetch-site": "cross-site"}
    asking = {"access-control-request-method": "POST", "access-control-request-headers": "content-type, x-request-id"}

    preflight = ask(app, "OPTIONS", "/v1/things/a/do", page | asking)
    done = ask(app, "POST", "/v1/things/a/do", page | JSON, b"{}")
    refused = ask(app, "POST", "/v1/things/a/do", page, b"{}")

    assert (preflight.status_code, done.status_code, refused.status_code) == (204, 200, 415)
    assert preflight.headers["access-control-allow-headers"] == "content-type, x-request-id"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    for given in (preflight, done, refused):
        assert given.headers["access-control-allow-origin"] == PAGE
        assert "origin" in given.headers.get_list("vary")
        assert "access-control-allow-credentials" not in given.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://shop.example", f"{PAGE}.evil.example"])
def test_a_page_of_another_origin_changes_nothing_and_reads_nothing(origin: str) -> None:
    app, page = app_for(PAGE), {"origin": origin}

    preflight = ask(app, "OPTIONS", "/v1/things/a/do", page | {"access-control-request-method": "POST"})
    change = ask(app, "POST", "/v1/things/a/do", page | JSON, b"{}")
    read = ask(app, "GET", "/livez", page)

    assert (change.status_code, read.status_code) == (403, 200)
    for given in (preflight, change, read):
        assert not [name for name in given.headers if name.startswith("access-control")]
        assert "origin" in given.headers.get_list("vary")


@pytest.mark.parametrize("origins", ["*", "null", "shop.example", "https://shop.example/", "https://*.example"])
def test_only_whole_origins_can_be_named(origins: str) -> None:
    with pytest.raises(Misconfigured, match=r"EVERLOOP_INGEST_CORS_ORIGINS.*https://shop.example:8443"):
        Settings.load("ingest", {"EVERLOOP_CORS_ORIGINS": origins})
