"""A foreign web page cannot change anything in a service: every path and method of all seven applications."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from tests.http_apps import http_app

from everloop.memory_bus.app import build
from everloop_schemas.topology import SERVICES
from everloop_shared.errors import Misconfigured
from everloop_shared.http.origin import OriginPolicy
from everloop_shared.http.problems import MisdirectedRequest
from everloop_shared.settings import Settings

pytestmark = pytest.mark.app

OWN = "http://127.0.0.1:8000"
JSON = {"content-type": "application/json"}
SAFE_METHODS = ("get", "head", "options")


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FastAPI]:
    """The seven applications of a local installation, built and not started."""
    folder: Path = tmp_path_factory.mktemp("installation")
    ports = dict.fromkeys([*SERVICES, "topics"], 0)
    return {service.name: http_app(service) for service in build(folder, ports, {})}


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    """(method, path) of every operation, with a name where the path wants one."""
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            yield method, "/".join("x" if part.startswith("{") else part for part in path.split("/"))


def request(app: FastAPI, method: str, path: str, headers: dict[str, str], body: bytes = b"{}") -> httpx.Response:
    """The response to a request with exactly these headers."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=OWN) as client:
            return await client.request(method, path, headers=headers, content=None if method in SAFE_METHODS else body)

    return asyncio.run(ask())


def statuses(apps: dict[str, FastAPI], headers: dict[str, str], *, include_safe: bool = False) -> dict[str, int]:
    """The status of each operation that changes something; with `include_safe`, of those that only read as well."""
    return {
        f"{name} {method} {path}": request(app, method, path, headers).status_code
        for name, app in apps.items()
        for method, path in operations(app)
        if (include_safe or method not in SAFE_METHODS) and path not in ("/livez", "/readyz")
    }


def test_operations_that_change_something_are_covered(apps: dict[str, FastAPI]) -> None:
    changing = [f"{name} {path}" for name, app in apps.items() for m, path in operations(app) if m not in SAFE_METHODS]

    assert len(apps) == 7
    assert {"ingest /v1/loops/x/events", "training /v1/loops/x/runs", "registry /v1/loops/x"} <= set(changing)
    assert {"registry /v1/loops/x/rollback", "registry /v1/loops/x/resume"} <= set(changing)


@pytest.mark.parametrize(
    "host", ["rebind.evil.example", "rebind.evil.example:8000", "127.0.0.1.evil.example", "10.1.2.3", "localhost.evil"]
)
def test_a_foreign_host_is_refused_by_every_route(apps: dict[str, FastAPI], host: str) -> None:
    answers = statuses(apps, {**JSON, "host": host}, include_safe=True)

    assert set(answers.values()) == {403}, answers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example", **JSON}, 403),
        ({"origin": "null", **JSON}, 403),
        ({"origin": "http://127.0.0.1:3000", **JSON}, 403),
        ({"origin": "http://127.0.0.1:8000.evil.example", **JSON}, 403),
        ({"sec-fetch-site": "cross-site", **JSON}, 403),
        ({"sec-fetch-site": "same-site", **JSON}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "text/plain; charset=utf-8; a=application/json"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": ""}, 415),
        ({"content-type": "application/json, text/plain"}, 415),
        ({"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:52.0)"}, 415),
    ],
)
def test_what_a_foreign_page_can_send_changes_nothing(
    apps: dict[str, FastAPI], headers: dict[str, str], status: int
) -> None:
    answers = statuses(apps, headers)

    assert set(answers.values()) == {status}, answers


def test_only_inference_requests_need_no_content_type(apps: dict[str, FastAPI]) -> None:
    answers = {operation: status for operation, status in statuses(apps, {}).items() if status != 415}

    assert {operation.rpartition("/")[2] for operation in answers} == {"infer"}


@pytest.mark.parametrize(
    "headers",
    [
        JSON,
        {"host": "localhost:1", **JSON},
        {"host": "LOCALHOST", **JSON},
        {"host": "[::1]:8000", **JSON},
        {"host": "127.0.0.2", **JSON},
        {"origin": OWN, "sec-fetch-site": "same-origin", **JSON},
        {"sec-fetch-site": "none", **JSON},
        {"content-type": "application/json; charset=utf-8"},
        {"content-type": "application/cloudevents+json"},
    ],
)
def test_requests_of_this_machine_are_accepted(apps: dict[str, FastAPI], headers: dict[str, str]) -> None:
    answers = statuses(apps, headers)

    assert not {403} & set(answers.values()), answers


def test_no_preflight_request_of_a_foreign_page_is_granted(apps: dict[str, FastAPI]) -> None:
    asking = {"origin": "https://evil.example", "access-control-request-method": "POST"}

    for app in apps.values():
        for method, path in operations(app):
            for answer in (request(app, "options", path, asking), request(app, method, path, {**asking, **JSON})):
                assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_carries_the_security_headers(apps: dict[str, FastAPI]) -> None:
    for app in apps.values():
        paths = [
            "/livez",
            "/docs",
            "/openapi.json",
            "/metrics",
            "/nowhere",
            *(p for m, p in operations(app) if m in SAFE_METHODS),
        ]
        for answer in [request(app, "get", path, {}) for path in paths] + [request(app, "post", "/docs", {})]:
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["cache-control"] == "no-store"


def test_pages_load_nothing_from_other_origins_and_run_only_their_inline_scripts(apps: dict[str, FastAPI]) -> None:
    pages = {f"{name} /docs": request(app, "get", "/docs", {}) for name, app in apps.items()}
    pages["console"] = request(apps["monitoring"], "get", "/", {})

    for name, page in pages.items():
        policy = page.headers["content-security-policy"]
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["cross-origin-opener-policy"] == "same-origin"
        assert "http" not in policy
        assert " style=" not in page.text, name
        assert not [word for word in ("src=", "//cdn", "@import", "onclick=", "onload=") if word in page.text]
    assert "script-src 'sha256-" in pages["console"].headers["content-security-policy"]
    assert "script-src" not in pages["ingest /docs"].headers["content-security-policy"]


def test_the_documentation_describes_every_operation(apps: dict[str, FastAPI]) -> None:
    for app in apps.values():
        content = request(app, "get", "/docs", {}).text
        for path, methods in app.openapi()["paths"].items():
            assert f"<code>{path}</code>" in content
            assert all(f"<b>{method.upper()}</b>" in content for method in methods)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/loops/a%00b", 400),
        ("/v1/loops/%0a/status", 400),
        ("/v1/loops/%ff%fe", None),
        ("/v1/loops/%zz", None),
        ("/v1/loops/..%2f..%2fetc", None),
        ("/v1/loops/" + "x" * 5000, None),
        ("/v1/loops/%F0%9F%98%80", None),
        ("/v1/loops?as_of=%00&limit=%00&topic=%00&since=99999999999999999999999", None),
        ("//evil.example/v1/loops", None),
    ],
)
def test_an_odd_address_is_never_an_internal_error(apps: dict[str, FastAPI], path: str, status: int | None) -> None:
    for app in apps.values():
        answer = request(app, "get", path, {})

        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        assert status is None or answer.status_code == status


def test_a_trailing_slash_means_the_same_and_redirects_nowhere(apps: dict[str, FastAPI]) -> None:
    for name, path in (("monitoring", "/v1/loops"), ("topics", "/v1/topics"), ("ingest", "/metrics")):
        plain, slashed = request(apps[name], "get", path, {}), request(apps[name], "get", path + "/", {})

        assert (slashed.status_code, "location" in slashed.headers) == (200, False)
        assert slashed.headers["content-type"] == plain.headers["content-type"]


def refusal(policy: OriginPolicy, **headers: str) -> int | None:
    """The status that a state-changing request with these headers gets, None where it is let in."""
    sent = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    try:
        policy.check_host(sent.get(b"host"), ("10.0.0.7", 8000))
        policy.check_origin(sent)
    except Exception as e:
        return int(getattr(e, "http_status", 500))
    return None


@pytest.mark.parametrize(
    ("allowed", "headers", "status"),
    [
        ("", {"host": "10.0.0.7:8000"}, None),
        ("", {"host": "10.0.0.8:8000"}, 403),
        ("", {"host": "shop.example.org"}, 403),
        ("", {"host": "bad host"}, 400),
        ("", {"host": "evil.example@127.0.0.1"}, 400),
        ("", {}, 400),
        ("shop.example.org", {"host": "shop.example.org:8000"}, None),
        ("shop.example.org", {"host": "Shop.Example.Org."}, None),
        ("shop.example.org:80", {"host": "shop.example.org:81"}, 403),
        (" other , shop.example.org ", {"host": "shop.example.org"}, None),
        ("shop.example.org", {"host": "shop.example.org", "origin": "https://shop.example.org"}, None),
        ("shop.example", {"host": "localhost", "origin": "https://shop.example", "sec_fetch_site": "cross-site"}, None),
        ("localhost:3000", {"host": "localhost:8000", "origin": "http://localhost:3000"}, None),
        ("localhost:3000", {"host": "localhost:8000", "origin": "http://localhost:3001"}, 403),
        ("*", {"host": "anything.example"}, None),
        ("*", {"host": "localhost", "origin": "https://evil.example"}, 403),
    ],
)
def test_allowed_hosts_are_a_setting(allowed: str, headers: dict[str, Any], status: int | None) -> None:
    assert refusal(OriginPolicy(allowed, "0.0.0.0"), **headers) == status


def test_an_ipv4_address_is_recognised_on_a_dual_stack_socket() -> None:
    policy = OriginPolicy("", "::")

    policy.check_host(b"10.0.0.7:8000", ("::ffff:10.0.0.7", 8000))
    with pytest.raises(MisdirectedRequest):
        policy.check_host(b"10.0.0.8:8000", ("::ffff:10.0.0.7", 8000))


def test_the_listening_address_is_a_host_name_and_a_wildcard_address_is_not() -> None:
    assert refusal(OriginPolicy("", "box.local"), host="box.local:8000") is None
    assert refusal(OriginPolicy("", "0.0.0.0"), host="0.0.0.0:8000") == 403


def test_refusals_are_counted(apps: dict[str, FastAPI]) -> None:
    def count() -> float:
        labels = {"service": "registry", "status": "403"}
        return REGISTRY.get_sample_value("everloop_http_refused_total", labels) or 0.0

    before = count()
    request(apps["registry"], "get", "/v1/loops", {"host": "evil.example"})

    assert count() == before + 1


@pytest.mark.parametrize(
    "value", ["http://shop.example.org", "shop.example.org/", "a b", "shop.example.org:x", "*.example"]
)
def test_an_invalid_allowed_host_is_refused_at_the_start(value: str) -> None:
    with pytest.raises(Misconfigured, match=r"EVERLOOP_INGEST_ALLOWED_HOSTS.*NAME:PORT"):
        Settings.load("ingest", {"EVERLOOP_ALLOWED_HOSTS": value})


def test_allowed_hosts_may_end_with_a_comma() -> None:
    assert Settings.load("ingest", {"EVERLOOP_ALLOWED_HOSTS": "ingest, gateway:80,*,"}).allowed_hosts
