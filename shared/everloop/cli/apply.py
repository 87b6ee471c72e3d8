"""Applies a loop file, and waits until every service on the data path works by it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import httpx

from everloop.cli.ask import ask
from everloop.cli.output import Failed
from everloop.endpoints import Endpoints
from everloop.errors import EverloopHTTPError
from everloop_schemas.names import LOOP_NAME_RULE, is_loop_name
from everloop_shared.yaml_core import read_yaml

REPORTERS = ("ingest", "feature", "serving")
WITHIN_S = 60.0
LOOK_EVERY_S = 0.05


def apply_file(file: Path, data: str | None) -> dict[str, Any]:
    """`{"loop", "revision", "change"}`, change being created, changed or unchanged."""
    text = _read(file)
    loop = _loop_name(file, text)
    before = _revision(loop, data)
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
    _reported(Endpoints(data), loop, revision)
    change = "created" if before is None else "unchanged" if before == revision else "changed"
    return {"loop": loop, "revision": revision, "change": change}


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as e:
        raise Failed(f"{file} cannot be read: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise Failed(f"{file} is no text in UTF-8") from e


def _loop_name(file: Path, text: str) -> str:
    try:
        spec = read_yaml(text)
    except (ValueError, RecursionError) as e:
        raise Failed(f"{file} is not YAML: {e}") from e
    if not isinstance(spec, dict):
        raise Failed(f"{file} is no loop file: it needs loop, task and schema as keys")
    name = spec.get("loop")
    if not isinstance(name, str) or not is_loop_name(name):
        said = "is missing; it" if name is None else f"{str(name)[:80]!r}"
        raise Failed(f"loop: {said} {LOOP_NAME_RULE}, such as churn-2")
    return name


def _revision(loop: str, data: str | None) -> int | None:
    try:
        return int(ask("registry", f"/v1/loops/{loop}", data)["revision"])
    except EverloopHTTPError as e:
        if e.status != 404:
            raise
        return None


def _reported(doors: Endpoints, loop: str, revision: int) -> None:
    """Return once all the reporters work by this revision or a later one. Raises Failed."""
    until, waiting = time.monotonic() + WITHIN_S, list(REPORTERS)
    with httpx.Client(timeout=5.0, trust_env=False) as http:
        while True:
            waiting = [s for s in waiting if not _reports(http, doors, s, loop, revision)]
            if not waiting:
                return
            if time.monotonic() > until:
                who = " and ".join(waiting)
                raise Failed(
                    f"revision {revision} of {loop} is applied, but {who} did not take it up within {WITHIN_S:g} s; "
                    "look at the logs, and apply it again"
                )
            time.sleep(LOOK_EVERY_S)


def _reports(http: httpx.Client, doors: Endpoints, service: str, loop: str, revision: int) -> bool:
    try:
        response = http.get(f"{doors.url(service)}/v1/loops/{loop}")
        return response.status_code == 200 and int(response.json()["revision"]) >= revision
    except (httpx.TransportError, ValueError, KeyError):
        doors.refresh(service)
        return False
