"""Applies a loop file, and waits until every service on the data path uses its revision."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import httpx

from everloop.cli.ask import ask
from everloop.cli.output import CommandFailed
from everloop.endpoints import Endpoints
from everloop.errors import EverloopHTTPError
from everloop.wire import http_error
from everloop_schemas.names import LOOP_NAME_RULE, is_loop_name
from everloop_shared.yaml_core import read_yaml

DATA_PATH = ("ingest", "feature", "serving")
"""The services that must use a revision before `apply` returns."""
APPLIED_WITHIN_S = 60.0
POLL_EVERY_S = 0.05


def apply_file(file: Path, data: str | None) -> dict[str, Any]:
    """`{"loop", "revision", "change"}`, change being created, changed or unchanged."""
    text = _read_text(file)
    loop = _read_loop_name(file, text)
    before = _find_revision(loop, data)
    applied = ask(
        "registry",
        f"/v1/loops/{loop}",
        data,
        method="PUT",
        content=text.encode(),
        content_type="application/yaml",
        retry_for=30.0,
    )
    revision = int(applied["revision"])
    _wait_until_used(Endpoints(data), loop, revision)
    change = "created" if before is None else "unchanged" if before == revision else "changed"
    return {"loop": loop, "revision": revision, "change": change}


def _read_text(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as e:
        raise CommandFailed(f"{file} cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise CommandFailed(f"{file} is no text in UTF-8") from e


def _read_loop_name(file: Path, text: str) -> str:
    try:
        spec = read_yaml(text)
    except (ValueError, RecursionError) as e:
        raise CommandFailed(f"{file} is not YAML: {e}") from e
    if not isinstance(spec, dict):
        raise CommandFailed(f"{file} is no loop file: it needs loop, task and schema as keys")
    name = spec.get("loop")
    if not isinstance(name, str) or not is_loop_name(name):
        subject = "is missing; it" if name is None else f"{str(name)[:80]!r}"
        raise CommandFailed(f"loop: {subject} {LOOP_NAME_RULE}, such as churn-2")
    return name


def _find_revision(loop: str, data: str | None) -> int | None:
    try:
        return int(ask("registry", f"/v1/loops/{loop}", data)["revision"])
    except EverloopHTTPError as e:
        if e.status != 404:
            raise
        return None


def _wait_until_used(endpoints: Endpoints, loop: str, revision: int) -> None:
    """Return once every service of the data path uses this revision or a later one. Raises CommandFailed."""
    deadline, waiting = time.monotonic() + APPLIED_WITHIN_S, list(DATA_PATH)
    with httpx.Client(timeout=5.0, trust_env=False, verify=endpoints.trusted()) as http:
        while True:
            waiting = [s for s in waiting if not _uses(http, endpoints, s, loop, revision)]
            if not waiting:
                return
            if time.monotonic() > deadline:
                services = " and ".join(waiting)
                raise CommandFailed(
                    f"revision {revision} of {loop} is applied, but {services} did not use it within "
                    f"{APPLIED_WITHIN_S:g} s; read the logs, and apply it again"
                )
            time.sleep(POLL_EVERY_S)


def _uses(http: httpx.Client, endpoints: Endpoints, service: str, loop: str, revision: int) -> bool:
    try:
        url = endpoints.url(service)
        response = http.get(f"{url}/v1/loops/{loop}", headers=endpoints.header(url))
        if response.status_code in (401, 403):
            raise http_error(response)
        return response.status_code == 200 and int(response.json()["revision"]) >= revision
    except (httpx.TransportError, ValueError, KeyError):
        endpoints.refresh(service)
        return False
